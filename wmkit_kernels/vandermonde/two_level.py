"""`vandermonde` in plain PyTorch, by two levels: with l = J i + j, x^l = x^{J i} x^j.

The sum over n is then a product of two real matrices per channel, over the (Re, Im) pairs of n: (v x^{J i}) and (x^j),
about 2 sqrt(length) powers instead of length. x^{2^k} comes from squaring in double precision; the tables double from
there in the precision of v, so that an entry carries log2(J) roundings and not J.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

WORKSPACE = 1 << 17
"""Complex numbers of one table (1 MiB in single precision) on the CPU: channels go through in blocks, so that tables
stay in the cache and nothing grows with the number of channels but the result."""

# In the body of an op under `torch.compile` a lazy `x.conj()` is silently not conjugated (torch 2.13).
_conj = torch.conj_physical


def forward(v: Tensor, log_x: Tensor, length: int) -> Tensor:
    """v, log_x (H, N) complex -> (H, length) real."""
    out = v.new_empty(v.shape[0], length, dtype=v.real.dtype)
    rows, columns = _split(length)
    for channels in _blocks(v, rows):
        coarse, fine = _tables(log_x[channels], rows, columns, v.dtype)
        left = coarse.mul_(2 * v[channels].unsqueeze(1)).conj_physical_()
        out[channels] = (_real(left) @ _real(fine).mT).flatten(1)[:, :length]
    return out


def backward(grad: Tensor, v: Tensor, log_x: Tensor) -> tuple[Tensor, Tensor]:
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
