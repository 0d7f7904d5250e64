"""Linear layers for many steps in a row: weights laid out once as the processor's matrix product reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 20
"""Calls from which on the layout, which takes as long as one to five of them, has paid."""
SMALLEST = 2**18
"""Numbers of a weight below which a product gains nothing."""
ROWS = range(8, 129)
"""Of a product: fewer are bound by memory, more lay the weight out at little cost of their own."""


@contextlib.contextmanager
def packed(module: nn.Module, steps: int) -> Iterator[None]:
    """A block of `steps` steps in which no parameter changes: large `nn.Linear`s multiply by weights laid out once.

        y = x W^T + b,        x (..., in) float32 on a CPU, of 8 to 128 rows, without gradients or autocast

    By MKL's packed product, which PyTorch has where it is built with MKL: 1.2 to 1.9 times as fast as a product that
    lays W out anew. Everything else, and everything in a block of few steps, is `F.linear` as ever. A weight is held
    twice as long as the block lasts.
    """
    layers = []
    if (
        steps >= STEPS
        and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        and hasattr(torch.ops.mkl, "_mkl_linear")
    ):
        layers = [
            layer
            for layer in module.modules()
            if type(layer) is nn.Linear
            and layer.weight.numel() >= SMALLEST
            and layer.weight.device.type == "cpu"
            and layer.weight.dtype == torch.float32
            and "forward" not in vars(layer)  # a block around this one has it, or its owner's own
        ]
    for layer in layers:
        layer.__dict__["forward"] = _Product(layer)  # found before the class's own
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)  # another thread's block may have ended with the same layers


class _Product:
    """The `forward` of a layer inside of the block."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.kept: tuple[int, Tensor | None] = (0, None)
        """Rows and the weight laid out for them; one pair, as another thread may read it."""

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias, rows = self.layer.weight, self.layer.bias, x.numel() // max(1, x.shape[-1])
        plain = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or x.dtype != torch.float32
        if plain or rows not in ROWS or torch.compiler.is_compiling():
            return F.linear(x, weight, bias)
        kept, layout = self.kept
        if kept != rows:
            layout = torch.ops.mkl._mkl_reorder_linear_weight(weight.detach(), rows)
            self.kept = rows, layout
        y = torch.ops.mkl._mkl_linear(x.reshape(rows, -1), layout, weight, bias, rows)  # (rows, out)
        return y.view(*x.shape[:-1], -1)
