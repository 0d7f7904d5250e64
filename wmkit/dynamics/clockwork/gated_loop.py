"""The loop of a level over the plain GRU with Gaussian latents, its backward pass written out.

    x_j = ReLU(V z_{j-1} + driven_j)
    [r, u] = sigmoid(W [x_j, h_{j-1}] + b)      n = tanh(W_n x_j + b_n + r (U_n h_{j-1} + c_n))
    h_j = (1 - u) n + u h_{j-1}
    p_j = W_out ReLU(W_2 ReLU(W_h h_j + seen_j) + b_2) + b_out = [mean, raw]
    z_j = mean + (softplus(raw) + min_std) noise_j

The same map as `Level.observe` without resets. One buffer per layer, time first, takes the results as they come, so
that nothing is gathered afterwards: the derivatives of the gates are taken for all steps at once, and the gradient of
every weight is one product for all steps instead of one per step, each added to a matrix as large as the weight.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Outcome = tuple[Tensor, Tensor, Tensor]
"""h (n, B, D), z (n, B, S) and the posterior's parameters (n, B, 2 S)."""


class Weights(NamedTuple):
    """The layers inside the loop: matrices (out, in) and biases (out,), in the order of the equations."""

    z: Tensor
    gates: Tensor
    gates_bias: Tensor
    new: Tensor
    new_bias: Tensor
    held: Tensor
    held_bias: Tensor
    h: Tensor
    second: Tensor
    second_bias: Tensor
    out: Tensor
    out_bias: Tensor


def gated_loop(
    driven: Tensor, seen: Tensor, noise: Tensor | None, z: Tensor, h: Tensor, weights: Weights, min_std: float
) -> Outcome:
    """All n steps from z (B, S) and h (B, D): driven (n, 1 or B, I), seen (n, B, U), noise (n, B, S) or None for means.

    In the precision of h whatever autocast says. Not differentiable twice.
    """
    loop: Any = _Loop
    lead = seen.shape[:2]
    noise = h.new_zeros(*lead, z.shape[1]) if noise is None else noise.to(h.dtype)
    with torch.autocast(h.device.type, enabled=False):
        return loop.apply(driven.to(h.dtype).expand(*lead, -1), seen.to(h.dtype), noise, z, h, min_std, *weights)


class _Kept(NamedTuple):
    """What the forward pass leaves for the backward one."""

    noise: Tensor
    x_h: Tensor
    """(n + 1, B, I + D): [x_j, h_{j-1}]; of the last row only the last h counts."""
    z: Tensor
    """(n + 1, B, S): z_{j-1}."""
    gates: Tensor
    """(n, B, 2 D): r and u."""
    held: Tensor
    """(n, B, D): U_n h_{j-1} + c_n."""
    new: Tensor
    """(n, B, D): n."""
    first: Tensor
    """(n, B, U): the posterior's first hidden layer."""
    second: Tensor
    posterior: Tensor

    @classmethod
    def empty(cls, driven: Tensor, seen: Tensor, noise: Tensor, z: Tensor, h: Tensor) -> _Kept:
        """Buffers with the state before the first step in them."""
        (n, _, width), (_, size), (_, units) = driven.shape, z.shape, h.shape
        x_h, zs = (h.new_empty(n + 1, len(h), features) for features in (width + units, size))
        x_h[0, :, width:], zs[0] = h, z
        gates, held, new = (h.new_empty(n, len(h), times * units) for times in (2, 1, 1))
        first, second = (h.new_empty(seen.shape) for _ in range(2))
        return cls(noise, x_h, zs, gates, held, new, first, second, h.new_empty(n, len(h), 2 * size))

    def x_and_h(self) -> tuple[Tensor, Tensor]:
        """x (n + 1, B, I) and h (n + 1, B, D), as views."""
        units = self.new.shape[2]
        return self.x_h[..., :-units], self.x_h[..., -units:]


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, driven: Tensor, seen: Tensor, noise: Tensor, z: Tensor, h: Tensor, min_std: float, *weights: Tensor
    ) -> Outcome:
        kept = _Kept.empty(driven, seen, noise, z, h)
        _advance(kept, driven, seen, Weights(*weights), min_std)
        ctx.save_for_backward(*kept, *weights)
        return kept.x_and_h()[1][1:], kept.z[1:], kept.posterior

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_h: Tensor, of_z: Tensor, of_posterior: Tensor) -> tuple[Tensor | None, ...]:
        number = len(_Kept._fields)
        kept, weights = _Kept(*ctx.saved_tensors[:number]), Weights(*ctx.saved_tensors[number:])
        found = _return(kept, of_h, of_z, of_posterior, weights)
        return found.x, found.first, None, found.z, found.h, None, *_of_weights(kept, found)


def _advance(kept: _Kept, driven: Tensor, seen: Tensor, weights: Weights, min_std: float) -> None:
    """Step after step, into the buffers."""
    xs, hs = kept.x_and_h()
    # A product with a transposed matrix packs it anew every time.
    w = Weights(*(weight.t().contiguous() if weight.ndim == 2 else weight for weight in weights))
    for (
        enters, sees, noise, x_h, x, before, h, z_before, z,
        gates, reset, update, held, new, first, second, posterior, mean, raw,
    ) in _steps(
        driven, seen, kept.noise, kept.x_h[:-1], xs[:-1], hs[:-1], hs[1:], kept.z[:-1], kept.z[1:],
        kept.gates, *kept.gates.chunk(2, -1), kept.held, kept.new, kept.first, kept.second,
        kept.posterior, *kept.posterior.chunk(2, -1),
    ):  # fmt: skip
        torch.addmm(enters, z_before, w.z, out=x).relu_()
        torch.addmm(w.gates_bias, x_h, w.gates, out=gates).sigmoid_()
        torch.addmm(w.held_bias, before, w.held, out=held)
        torch.addmm(w.new_bias, x, w.new, out=new).addcmul_(reset, held).tanh_()
        torch.lerp(new, before, update, out=h)
        torch.addmm(sees, h, w.h, out=first).relu_()
        torch.addmm(w.second_bias, first, w.second, out=second).relu_()
        torch.addmm(w.out_bias, second, w.out, out=posterior)
        torch.addcmul(mean, F.softplus(raw).add_(min_std), noise, out=z)


class _Gradients(NamedTuple):
    """Of what each layer gives before its activation, (n, B, ...); of the state before the first step, (B, ...)."""

    x: Tensor
    gates: Tensor
    new: Tensor
    held: Tensor
    first: Tensor
    second: Tensor
    posterior: Tensor
    z: Tensor
    h: Tensor

    @classmethod
    def empty(cls, kept: _Kept) -> _Gradients:
        """Buffers, and no gradient yet in the last state."""
        xs, _ = kept.x_and_h()
        layers = (kept.gates, kept.new, kept.held, kept.first, kept.second, kept.posterior)
        gates, new, held, first, second, posterior = (torch.empty_like(x) for x in layers)
        x = xs.new_empty(xs[1:].shape)
        return cls(
            x, gates, new, held, first, second, posterior, torch.zeros_like(kept.z[0]), new.new_zeros(new[0].shape)
        )


def _return(kept: _Kept, of_h: Tensor, of_z: Tensor, of_posterior: Tensor, w: Weights) -> _Gradients:
    """Step after step from the last one."""
    (xs, hs), (reset, update) = kept.x_and_h(), kept.gates.chunk(2, -1)
    to_new = torch.ops.aten.tanh_backward(1 - update, kept.new)
    to_update = torch.ops.aten.sigmoid_backward(hs[:-1] - kept.new, update)
    to_reset = torch.ops.aten.sigmoid_backward(kept.held, reset)
    to_raw = kept.noise * torch.sigmoid(kept.posterior.chunk(2, -1)[1])
    found = _Gradients.empty(kept)
    dz, dh, width = found.z, found.h, xs.shape[2]
    for (
        more_h, more_z, more_mean, more_raw, x, first, second, r, u, n_factor, u_factor, r_factor, raw_factor,
        dx, dgates, dr, du, dn, dheld, dfirst, dsecond, dposterior, dmean, draw,
    ) in reversed(list(_steps(
        of_h, of_z, *of_posterior.chunk(2, -1), xs[:-1], kept.first, kept.second,
        reset, update, to_new, to_update, to_reset, to_raw,
        found.x, found.gates, *found.gates.chunk(2, -1), found.new, found.held, found.first, found.second,
        found.posterior, *found.posterior.chunk(2, -1),
    ))):  # fmt: skip
        dz = dz + more_z
        torch.add(more_mean, dz, out=dmean)
        torch.addcmul(more_raw, dz, raw_factor, out=draw)
        _where_positive(dposterior @ w.out, second, dsecond)
        _where_positive(dsecond @ w.second, first, dfirst)
        dh = torch.addmm(dh + more_h, dfirst, w.h)
        torch.mul(dh, n_factor, out=dn)
        torch.mul(dh, u_factor, out=du)
        torch.mul(dn, r_factor, out=dr)
        torch.mul(dn, r, out=dheld)
        both = dgates @ w.gates
        _where_positive(torch.addmm(both[:, :width], dn, w.new), x, dx)
        dh = torch.addmm(both[:, width:], dheld, w.held).addcmul_(dh, u)
        dz = dx @ w.z
    return found._replace(z=dz, h=dh)


def _of_weights(kept: _Kept, found: _Gradients) -> Weights:
    """The gradients of the weights, each one product for all steps."""
    xs, hs = kept.x_and_h()

    def product(g: Tensor, x: Tensor) -> Tensor:
        return g.flatten(0, 1).t() @ x.flatten(0, 1)

    return Weights(
        z=product(found.x, kept.z[:-1]),
        gates=product(found.gates, kept.x_h[:-1]),
        gates_bias=found.gates.sum((0, 1)),
        new=product(found.new, xs[:-1]),
        new_bias=found.new.sum((0, 1)),
        held=product(found.held, hs[:-1]),
        held_bias=found.held.sum((0, 1)),
        h=product(found.first, hs[1:]),
        second=product(found.second, kept.first),
        second_bias=found.second.sum((0, 1)),
        out=product(found.posterior, kept.second),
        out_bias=found.posterior.sum((0, 1)),
    )


def _steps(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The tensors (n, ...) step by step."""
    return zip(*(x.unbind(0) for x in tensors), strict=True)


def _where_positive(gradient: Tensor, y: Tensor, out: Tensor) -> None:
    """The gradient behind y = ReLU(.), into `out`."""
    torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=out)
