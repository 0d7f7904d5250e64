"""Sums of exponentials at equal distances: the convolution kernel of a diagonal state space model.

`vandermonde` in plain PyTorch, by two levels: with l = J i + j, x^l = x^{J i} x^j.

The sum over n is then a product of two real matrices per channel, over the (Re, Im) pairs of n: (v x^{J i}) and (x^j),
about 2 sqrt(length) powers instead of length. x^{2^k} comes from squaring in double precision; the tables double from
there in the precision of v, so that an entry carries log2(J) roundings and not J.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from wmkit_kernels.common.dispatch import use_triton, why_not_here
from wmkit_kernels.common.operator import operator

WORKSPACE = 1 << 17
"""Complex numbers of one table (1 MiB in single precision) on the CPU: channels go through in blocks, so that tables
stay in the cache and nothing grows with the number of channels but the result."""

# In the body of an op under `torch.compile` a lazy `x.conj()` is silently not conjugated (torch 2.13).
_conj = torch.conj_physical


def _two_levels(v: Tensor, log_x: Tensor, length: int) -> Tensor:
    """v, log_x (H, N) complex -> (H, length) real."""
    out = v.new_empty(v.shape[0], length, dtype=v.real.dtype)
    rows, columns = _split(length)
    for channels in _blocks(v, rows):
        coarse, fine = _tables(log_x[channels], rows, columns, v.dtype)
        left = coarse.mul_(2 * v[channels].unsqueeze(1)).conj_physical_()
        out[channels] = (_real(left) @ _real(fine).mT).flatten(1)[:, :length]
    return out


def _two_levels_backward(grad: Tensor, v: Tensor, log_x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in v and log_x: grad (H, length) real -> two (H, N) complex.

    With S = sum_l g_l x^l and S' = sum_l l g_l x^l, they are 2 conj(S) and 2 conj(v S'). By two levels
    S = sum_i x^{J i} M_i and S' = sum_i x^{J i} (J i M_i + M'_i), where M_i = sum_j g_ij x^j, M'_i = sum_j j g_ij x^j.
    """
    length = grad.shape[1]
    rows, columns = _split(length)
    of_v, of_log_x = v.new_empty(v.shape), log_x.new_empty(v.shape)
    within = torch.arange(columns, device=v.device, dtype=grad.dtype)
    starts = columns * torch.arange(rows, device=v.device, dtype=grad.dtype)
    for channels in _blocks(v, rows):
        coarse, fine = _tables(log_x[channels], rows, columns, v.dtype)
        weight = torch.nn.functional.pad(grad[channels], (0, rows * columns - length)).view(-1, rows, columns)
        moments = _complex(torch.cat([weight, weight * within], dim=1) @ _real(fine))
        plain, weighted = moments.chunk(2, dim=1)
        of_v[channels] = _conj(2 * (coarse * plain).sum(1))
        weighted = torch.addcmul(weighted, plain, starts[:, None])
        of_log_x[channels] = _conj(2 * v[channels] * (coarse * weighted).sum(1))
    return of_v, of_log_x


def _tables(log_x: Tensor, rows: int, columns: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x^{J i} (H, I, N) and x^j (H, J, N); J, `columns`, is a power of two."""
    x = torch.exp(log_x.to(torch.complex128))
    fine, power = _doubled(x, columns, dtype)
    return _doubled(power, rows, dtype)[0], fine


def _doubled(x: Tensor, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(x^0 .. x^{count-1} (H, count, N) in `dtype`, x^m for the smallest power of two m >= count)."""
    table = x.new_empty(x.shape[0], count, x.shape[1], dtype=dtype)
    table[:, 0] = 1
    known = 1
    while known < count:
        new = min(known, count - known)
        torch.mul(table[:, :new], x.to(dtype).unsqueeze(1), out=table[:, known : known + new])
        x, known = x * x, 2 * known
    return table, x


def _split(length: int) -> tuple[int, int]:
    """(I, J) with I J >= length, about equal, J a power of two."""
    columns = 1 << max(0, round(math.log2(math.sqrt(length))))
    return -(-length // columns), columns


def _blocks(v: Tensor, rows: int) -> Iterator[slice]:
    """Channels in blocks whose table fits the workspace; one block where memory is not cached."""
    size = max(1, WORKSPACE // max(1, rows * v.shape[1])) if v.device.type == "cpu" else max(1, v.shape[0])
    return (slice(start, start + size) for start in range(0, v.shape[0], size))


def _real(x: Tensor) -> Tensor:
    """(..., N) complex -> (..., 2N) real."""
    return torch.view_as_real(x).flatten(-2)


def _complex(x: Tensor) -> Tensor:
    """(..., 2N) real -> (..., N) complex."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))


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


@operator("vandermonde")
def _sums(v: Tensor, log_x: Tensor, length: int, triton: bool) -> Tensor:
    if triton:
        from wmkit_kernels.vandermonde import triton_impl

        return triton_impl.forward(v, log_x, length)
    with torch.autocast(v.device.type, enabled=False):
        return _two_levels(v, log_x, length)


@operator("vandermonde_backward")
def _sums_backward(grad: Tensor, v: Tensor, log_x: Tensor, triton: bool) -> tuple[Tensor, Tensor]:
    if triton:
        from wmkit_kernels.vandermonde import triton_impl

        return triton_impl.backward(grad, v, log_x)
    with torch.autocast(v.device.type, enabled=False):
        return _two_levels_backward(grad, v, log_x)


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
