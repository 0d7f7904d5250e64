"""The diagonal linear recurrence over time, with resets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wmkit_kernels.common.dispatch import use_triton, why_not_here
from wmkit_kernels.common.operator import operator
from wmkit_kernels.diagonal_scan import two_level


def diagonal_scan(
    a: Tensor,
    b: Tensor,
    initial_state: Tensor | None = None,
    is_first: Tensor | None = None,
    *,
    backend: str = "auto",
) -> Tensor:
    """s_t = a_t s_{t-1} + b_t with s_{t-1} := 0 where is_first_t; returns all states (B, T, N).

    `b` (B, T, N) real or complex, `a` broadcastable to it: (N,) for a system that stays, (B, T, N) for one that does
    not; `initial_state` = s_{-1} (B, N) or None for zeros; `is_first` (B, T) bool or None for no reset, never read on
    the host. Answers in the promoted precision of `a`, `b` and `initial_state`, at least float32. Differentiable
    (once) in all three. `backend`: `auto` | `torch` | `triton`; see `why_not_triton`.

    Raises `ValueError` for shapes or dtypes other than these, and where Triton is asked for and cannot run.
    """
    _check(a, b, initial_state, is_first)
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    if initial_state is not None:
        dtype = torch.promote_types(dtype, initial_state.dtype)
        initial_state = initial_state.to(dtype).resolve_conj()
    a, b = a.to(dtype).resolve_conj(), b.to(dtype).resolve_conj()
    triton = use_triton(backend, why_not_triton(a, b, initial_state, is_first))
    return _scan(a.reshape((1,) * (3 - a.ndim) + a.shape), b, initial_state, is_first, triton)


def why_not_triton(
    a: Tensor, b: Tensor, initial_state: Tensor | None = None, is_first: Tensor | None = None
) -> str | None:
    """Why the Triton kernels cannot take these tensors, or None."""
    return why_not_here(a, b, initial_state, is_first)


def _check(a: Tensor, b: Tensor, initial_state: Tensor | None, is_first: Tensor | None) -> None:
    if b.ndim != 3 or b.shape[1] < 1:
        raise ValueError(f"expected b (B, T >= 1, N), got {tuple(b.shape)}")
    wrong = a.ndim > 3 or any(x not in (1, y) for x, y in zip(a.shape[::-1], b.shape[::-1], strict=False))
    if wrong:
        raise ValueError(f"expected a broadcastable to b (B, T, N) = {tuple(b.shape)}, got {tuple(a.shape)}")
    if initial_state is not None and initial_state.shape != (b.shape[0], b.shape[2]):
        expected = (b.shape[0], b.shape[2])
        raise ValueError(f"expected initial_state (B, N) = {expected}, got {tuple(initial_state.shape)}")
    for name, x in {"a": a, "b": b, "initial_state": initial_state}.items():
        if x is not None and not (x.is_floating_point() or x.is_complex()):
            raise ValueError(f"expected {name} to be real or complex floating point, got {x.dtype}")
    if is_first is not None and (is_first.shape != b.shape[:2] or is_first.dtype != torch.bool):
        raise ValueError(
            f"expected is_first (B, T) = {tuple(b.shape[:2])} bool, got {tuple(is_first.shape)} of {is_first.dtype}"
        )


@operator("diagonal_scan")
def _scan(a: Tensor, b: Tensor, initial_state: Tensor | None, is_first: Tensor | None, triton: bool) -> Tensor:
    if triton:
        from wmkit_kernels.diagonal_scan import triton_impl

        return triton_impl.forward(a, b, initial_state, is_first)
    return two_level.forward(a, b, initial_state, is_first)


@operator("diagonal_scan_backward")
def _scan_backward(
    grad: Tensor, a: Tensor, states: Tensor, initial_state: Tensor | None, is_first: Tensor | None, triton: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if triton:
        from wmkit_kernels.diagonal_scan import triton_impl

        return triton_impl.backward(grad, a, states, initial_state, is_first)
    return two_level.backward(grad, a, states, initial_state, is_first)


@_scan.register_fake
def _(a: Tensor, b: Tensor, initial_state: Tensor | None, is_first: Tensor | None, triton: bool) -> Tensor:
    return torch.empty_like(b, memory_format=torch.contiguous_format)


@_scan_backward.register_fake
def _(
    grad: Tensor, a: Tensor, states: Tensor, initial_state: Tensor | None, is_first: Tensor | None, triton: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return a.new_empty(a.shape), states.new_empty(states.shape), states.new_empty(states.shape[0], states.shape[2])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, _, initial_state, is_first, ctx.triton = inputs
    ctx.save_for_backward(a, output, initial_state, is_first)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, states, initial_state, is_first = ctx.saved_tensors
    of_a, of_b, of_initial = _scan_backward(grad.resolve_conj(), a, states, initial_state, is_first, ctx.triton)
    return of_a, of_b, None if initial_state is None else of_initial, None, None


_scan.register_autograd(_differentiate, setup_context=_save)
