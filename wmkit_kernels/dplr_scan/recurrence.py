"""The DPLR recurrence from a table of coefficients, as an op that PyTorch's compiler does not look into."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from wmkit_kernels.common.custom_op import apart, vector_jacobian
from wmkit_kernels.dplr.chunks import CHUNK, Chunk, by_channel, chunk_of, first_state, pairs_of
from wmkit_kernels.dplr.system import Discrete, discretise, discretise_input, inner
from wmkit_kernels.dplr_scan.kept import kept_count


def table_of(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor) -> Tensor:
    """Abar - 1 = diag(a) - g q, Bbar and C as rows a, g, q, Bbar, C: (5, H, N, 2) float64."""
    discrete, inputs = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    return torch.view_as_real(
        torch.stack([discrete.ratio - 1, discrete.gain, discrete.row, inputs, C.to(inputs.dtype)]).resolve_conj()
    )


def recurrence(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, triton: bool
) -> tuple[Tensor, Tensor]:
    """(y, last state) of checked arguments, in Triton or in PyTorch; Triton wants float32."""
    differentiable = any(x is not None and x.requires_grad for x in (table, u, state))
    y, last, _ = _opaque(table, u, state, is_first, triton, torch.is_grad_enabled() and differentiable)
    return y, last


def in_chunks(
    discrete: Discrete, inputs: Tensor, C: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The recurrence in PyTorch, in the precision of `u`: (y, last state)."""
    chunk = chunk_of(discrete, inputs, C, min(u.shape[1], CHUNK), u.dtype)
    seen, last = chunk_after_chunk(chunk, by_channel(u), first_state(u, C.shape[1], state), is_first)
    y = seen.permute(1, 2, 0) + inner(C.to(inputs.dtype), inputs)[:, 0].to(u.dtype) * u
    return y, pairs_of(last)


def chunk_after_chunk(chunk: Chunk, u: Tensor, state: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
    """u (H, B, T), state (H, B, 2N) -> (outputs (H, B, T) but for C Bbar u, last state)."""
    outputs = []
    pieces = torch.split(
        u, CHUNK, dim=2
    )  # one gradient for all of them; that of a slice is as long as u, for each chunk
    resets = [None] * len(pieces) if is_first is None else torch.split(is_first, CHUNK, dim=1)
    for piece, reset in zip(pieces, resets, strict=True):
        seen, state = _through(chunk, piece, state, reset)
        outputs.append(seen)
    return torch.cat(outputs, dim=2), state


def _through(chunk: Chunk, u: Tensor, state: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
    """One chunk: u (H, B, R), state (H, B, 2N) -> (outputs (H, B, R) but for C Bbar u, last state)."""
    chunk = chunk.shortened(u.shape[2])
    if is_first is None:
        alpha, seen = chunk.rows(u, state).chunk(2, dim=-1)
        return seen, chunk.leave(state, u, alpha)
    segment = is_first.cumsum(1)
    alpha, seen = chunk.rows_within(segment, u, state).chunk(2, dim=-1)
    lasting = segment == segment[:, -1:]
    remaining = torch.where(segment[:, -1:] == 0, state, 0)
    return seen, chunk.leave(remaining, torch.where(lasting, u, 0), torch.where(lasting, alpha, 0))


def _of_table(table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
    ratio, gain, row, inputs, C = torch.view_as_complex(table.double()).unbind(0)
    y, last = in_chunks(Discrete(1 + ratio, gain, row), inputs, C, u, state, is_first)
    return y.contiguous(), last.contiguous()


@torch.library.custom_op("wmkit::dplr_recurrence", mutates_args=())
def _opaque(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, triton: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the last state and, in Triton with `keep`, the states that the backward pass starts from."""
    if triton:
        from wmkit_kernels.dplr_scan import triton_impl

        return triton_impl.forward(table, u, state, is_first, keep)
    y, last = apart(u.device, _of_table, table, u, state, is_first)
    return y, last, u.new_empty(0)


@_opaque.register_fake
def _(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, triton: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    kept = (u.shape[0], kept_count(u.shape[1]), *table.shape[1:]) if triton and keep else (0,)
    return u.new_empty(u.shape), u.new_empty(u.shape[0], *table.shape[1:]), u.new_empty(kept)


@torch.library.custom_op("wmkit::dplr_recurrence_backward", mutates_args=())
def _opaque_backward(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, kept: Tensor, of_y: Tensor,
    of_last: Tensor, triton: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the table, of u and of the first state (also where that was None: zeros)."""
    if triton:
        from wmkit_kernels.dplr_scan import triton_impl

        return triton_impl.backward(table, u, is_first, kept, of_y, of_last)
    first = torch.zeros_like(of_last) if state is None else state
    found = vector_jacobian(functools.partial(_of_table, is_first=is_first), (table, u, first), (of_y, of_last))
    return found[0], found[1], found[2]


@_opaque_backward.register_fake
def _(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, kept: Tensor, of_y: Tensor,
    of_last: Tensor, triton: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return table.new_empty(table.shape), u.new_empty(u.shape), of_last.new_empty(of_last.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    table, u, state, is_first, ctx.triton, keep = inputs
    assert keep or not ctx.triton, "a gradient was asked of a recurrence that kept no states"
    ctx.has_state = state is not None
    ctx.save_for_backward(table, u, state, is_first, output[2])
    ctx.mark_non_differentiable(output[2])


def _differentiate(ctx: Any, of_y: Tensor, of_last: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    found = _opaque_backward(*ctx.saved_tensors, of_y.contiguous(), of_last.contiguous(), ctx.triton)
    return found[0], found[1], found[2] if ctx.has_state else None, None, None, None


_opaque.register_autograd(_differentiate, setup_context=_remember)
