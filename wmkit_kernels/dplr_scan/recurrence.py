"""The DPLR recurrence from a table of coefficients, as an op that PyTorch's compiler does not look into."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from wmkit_kernels.common.dispatch import run_outside_autograd, vector_jacobian
from wmkit_kernels.common.operator import operator
from wmkit_kernels.common.series import channels_first, inner, rows_to_state, state_to_rows
from wmkit_kernels.dplr.chunks import CHUNK, chunk_of, kept_count
from wmkit_kernels.dplr.system import Discrete, discretise, discretise_input


def table_of(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor) -> Tensor:
    """Abar - 1 = diag(a) - g q, Bbar and C as rows a, g, q, Bbar, C: (5, H, N, 2) float64."""
    discrete, Bbar = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    return torch.view_as_real(
        torch.stack([discrete.a - 1, discrete.g, discrete.q, Bbar, C.to(Bbar.dtype)]).resolve_conj()
    )


def recurrence(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, triton: bool
) -> tuple[Tensor, Tensor]:
    """(y, last state) of checked arguments, in Triton or in PyTorch, in the precision of `u`; Triton wants float32."""
    state = None if state is None else state.to(u.dtype)
    differentiable = any(x is not None and x.requires_grad for x in (table, u, state))
    y, last, _ = _recurrence_op(table, u, state, is_first, triton, torch.is_grad_enabled() and differentiable)
    return y, last


def in_chunks(
    discrete: Discrete, Bbar: Tensor, C: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The recurrence in PyTorch, in the precision of `u`: (y, last state)."""
    chunk = chunk_of(discrete, Bbar, C, min(u.shape[1], CHUNK), u.dtype)
    y, last = chunk.scan(channels_first(u), state_to_rows(u, C.shape[1], state), is_first)  # (H, B, T), (H, B, 2N)
    y = y.permute(1, 2, 0) + inner(C.to(Bbar.dtype), Bbar)[:, 0].to(u.dtype) * u
    return y, rows_to_state(last)


def _from_table(table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
    a, g, q, Bbar, C = torch.view_as_complex(table.double()).unbind(0)
    y, last = in_chunks(Discrete(1 + a, g, q), Bbar, C, u, state, is_first)
    return y.contiguous(), last.contiguous()


@operator("dplr_recurrence")
def _recurrence_op(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, triton: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the last state and, in Triton with `keep`, the states that the backward pass starts from."""
    if triton:
        from wmkit_kernels.dplr_scan import triton_impl

        return triton_impl.forward(table, u, state, is_first, keep)
    y, last = run_outside_autograd(u.device, _from_table, table, u, state, is_first)
    return y, last, u.new_empty(0)


@_recurrence_op.register_fake
def _(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, triton: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    kept = (u.shape[0], kept_count(u.shape[1]), *table.shape[1:]) if triton and keep else (0,)
    return u.new_empty(u.shape), u.new_empty(u.shape[0], *table.shape[1:]), u.new_empty(kept)


@operator("dplr_recurrence_backward")
def _recurrence_op_backward(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, kept: Tensor, of_y: Tensor,
    of_last: Tensor, triton: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the table, of u and of the first state (also where that was None: zeros)."""
    if triton:
        from wmkit_kernels.dplr_scan import triton_impl

        return triton_impl.backward(table, u, is_first, kept, of_y, of_last)
    first = torch.zeros_like(of_last) if state is None else state
    of_table, of_u, of_first = vector_jacobian(
        functools.partial(_from_table, is_first=is_first), (table, u, first), (of_y, of_last)
    )
    return of_table, of_u, of_first


@_recurrence_op_backward.register_fake
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
    of_table, of_u, of_first = _recurrence_op_backward(
        *ctx.saved_tensors, of_y.contiguous(), of_last.contiguous(), ctx.triton
    )
    return of_table, of_u, of_first if ctx.has_state else None, None, None, None


_recurrence_op.register_autograd(_differentiate, setup_context=_remember)
