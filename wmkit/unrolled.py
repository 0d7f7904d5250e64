"""Linear layers inside a loop over time: the gradient of their weight in a few products instead of one per step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 512
"""Rows (sequences times steps) of one product: more of them leave the cache of a CPU, fewer are more launches."""


class UnrolledLinear:
    """y_j = W x_j + c_j, called once for each step j = 0 .. n-1 in turn.

    The gradient dL/dW = sum_j g_j x_j^T, g_j = dL/dy_j, is made of all x and g once the loop's backward pass is over,
    where n calls of a linear layer would make n small products and add each to a matrix as large as W. c is what is
    known of the output before the loop: a bias, or the share of other inputs. Not differentiable twice.
    """

    def __init__(self, weight: Tensor, shares: Tensor, lead: tuple[int, int]) -> None:
        """Weight (out, in); shares of shape (n, B, out) or one that expands to it; lead = (n, B)."""
        self._inputs: list[Tensor] = []
        self._weight = _as_autocast(weight.detach()).t()
        shared: Any = _Shares
        self._shares = iter(shared.apply(shares.expand(*lead, -1), weight, self._inputs).unbind(0))

    def __call__(self, x: Tensor) -> Tensor:
        """The next step's output (B, out) for x (B, in)."""
        self._inputs.append(x.detach())
        return torch.addmm(next(self._shares), x, self._weight)


class _Shares(torch.autograd.Function):
    """The shares as they are. Their gradient is g at every step, of which that of the weight is made.

    `inputs` is filled by the loop, after this forward and before this backward.
    """

    @staticmethod
    def forward(ctx: Any, shares: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        ctx.inputs, ctx.shape, ctx.dtype = inputs, weight.shape, weight.dtype
        return shares.view_as(shares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        assert len(ctx.inputs) == len(g), "the loop takes all of its steps"
        grad, steps = g.new_zeros(ctx.shape), max(1, ROWS // max(1, g.shape[1]))
        for start in range(0, len(g), steps):
            window = slice(start, start + steps)
            grad.addmm_(g[window].flatten(0, 1).t(), torch.cat(ctx.inputs[window]).to(g.dtype))
        return g, grad.to(ctx.dtype), None


def _as_autocast(weight: Tensor) -> Tensor:
    """The weight in the precision that autocast gives products, converted once instead of at every step."""
    kind = weight.device.type
    return weight.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else weight
