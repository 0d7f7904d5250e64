"""Sums of exponentials at equal distances: the convolution kernel of a diagonal state space model."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from wmkit_kernels.common.dispatch import use_triton, why_not_here
from wmkit_kernels.vandermonde import two_level


def vandermonde(v: Tensor, log_x: Tensor, length: int, *, backend: str = "auto") -> Tensor:
    """k[..., l] = 2 Re sum_n v[..., n] exp(l log_x[..., n]) for l < length.

    `v`, `log_x` complex (..., N), one of each conjugate pair, their leading axes broadcast; Re log_x <= 0 unless a
    growing kernel is meant. Returns (..., length) real in the precision of `v`. Differentiable (once) in both.
    It takes log x since rounding x to single precision costs ten times the accuracy at length 1000; and `log_x` may be
    complex128 where `v` is complex64, which costs nothing and spares the rounding of log x, worth |l log x| 6e-8.
    `backend`: `auto` | `torch` | `triton`; see `why_not_triton`.

    Raises `ValueError` for shapes or dtypes other than these, and where Triton is asked for and cannot run.
    """
    _check(v, log_x, length)
    lead = [max(pair) for pair in itertools.zip_longest(v.shape[-2::-1], log_x.shape[-2::-1], fillvalue=1)][::-1]
    v, log_x = (x.resolve_conj().expand(*lead, x.shape[-1]) for x in (v, log_x))
    triton = use_triton(backend, why_not_triton(v, log_x))
    pairs = v.shape[-1]
    return _sums(v.reshape(-1, pairs), log_x.reshape(-1, pairs), length, triton).view(*v.shape[:-1], length)


def why_not_triton(v: Tensor, log_x: Tensor) -> str | None:
    """Why the Triton kernels cannot take these tensors, or None; `log_x` may be double."""
    return why_not_here(v)


def _check(v: Tensor, log_x: Tensor, length: int) -> None:
    for name, x in {"v": v, "log_x": log_x}.items():
        if not x.is_complex():
            raise ValueError(f"expected {name} to be complex (torch.view_as_complex), got {x.dtype}")
    lead = zip(v.shape[-2::-1], log_x.shape[-2::-1], strict=False)
    if (
        v.ndim < 1
        or log_x.ndim < 1
        or v.shape[-1] != log_x.shape[-1]
        or any(x != y and 1 not in (x, y) for x, y in lead)
    ):
        raise ValueError(f"expected v and log_x (..., N), got {tuple(v.shape)} and {tuple(log_x.shape)}")
    if length < 1:
        raise ValueError(f"expected length >= 1, got {length}")


@torch.library.custom_op("wmkit::vandermonde", mutates_args=())
def _sums(v: Tensor, log_x: Tensor, length: int, triton: bool) -> Tensor:
    if triton:
        from wmkit_kernels.vandermonde import triton_impl

        return triton_impl.forward(v, log_x, length)
    with torch.autocast(v.device.type, enabled=False):
        return two_level.forward(v, log_x, length)


@torch.library.custom_op("wmkit::vandermonde_backward", mutates_args=())
def _sums_backward(grad: Tensor, v: Tensor, log_x: Tensor, triton: bool) -> tuple[Tensor, Tensor]:
    if triton:
        from wmkit_kernels.vandermonde import triton_impl

        return triton_impl.backward(grad, v, log_x)
    with torch.autocast(v.device.type, enabled=False):
        return two_level.backward(grad, v, log_x)


@_sums.register_fake
def _(v: Tensor, log_x: Tensor, length: int, triton: bool) -> Tensor:
    return v.new_empty(v.shape[0], length, dtype=v.dtype.to_real())


@_sums_backward.register_fake
def _(grad: Tensor, v: Tensor, log_x: Tensor, triton: bool) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), log_x.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    v, log_x, _, ctx.triton = inputs
    ctx.save_for_backward(v, log_x)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_sums_backward(grad, *ctx.saved_tensors, ctx.triton), None, None


_sums.register_autograd(_differentiate, setup_context=_save)
