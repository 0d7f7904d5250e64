"""What every state space kernel is made of: conjugate pairs, power series, geometric sums.

A system keeps one complex number of each conjugate pair, so an inner product over the whole state is 2 Re over the half
that is kept. Callers hold a state as (..., N, 2) real; matrix products take it as a row of 2N numbers.

A truncated power series is its real coefficients x_0 .. x_{L-1} on the last axis; other axes broadcast. Products and
quotients go by FFT: causal convolution and its inverse. Backward passes are written by hand: autograd's own backward of
`rfft` is a full complex transform, four times the work. Sums of geometric sequences over conjugate pairs go by two
levels.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def inner(x: Tensor, y: Tensor) -> Tensor:
    """2 Re sum_n x_n y_n, the axis kept: (..., N), (..., N) complex -> (..., 1) real."""
    return 2 * (x * y).real.sum(-1, keepdim=True)


def row(x: Tensor) -> Tensor:
    """A row that acts on (Re, Im) pairs as s -> 2 Re(x s): (..., N) complex -> (..., 2N) real."""
    return column(2 * x.conj())


def column(x: Tensor) -> Tensor:
    """(Re, Im) pairs: (..., N) complex -> (..., 2N) real."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def channels_first(u: Tensor) -> Tensor:
    """(B, T, H) -> (H, B, T), as the transpose of one matrix, which copies faster than a permutation."""
    return u.flatten(0, 1).t().contiguous().view(u.shape[2], u.shape[0], u.shape[1])


def state_to_rows(u: Tensor, pairs: int, state: Tensor | None) -> Tensor:
    """The state before the first step of u (B, T, H), zeros for None: (B, H, N, 2) -> (H, B, 2N)."""
    if state is None:
        return u.new_zeros(u.shape[2], u.shape[0], 2 * pairs)
    return state.to(u.dtype).contiguous().flatten(2).transpose(0, 1)


def rows_to_state(rows: Tensor) -> Tensor:
    """(H, B, 2N) -> (B, H, N, 2), the inverse of `state_to_rows`."""
    return rows.transpose(0, 1).reshape(rows.shape[1], rows.shape[0], -1, 2)


def check_sequence(pairs: int, channels: int, u: Tensor, state: Tensor | None, is_first: Tensor | None) -> None:
    """Raise `ValueError` unless u is (B, T >= 1, H) real, the state (B, H, N, 2) real, is_first (B, T) bool.

    The state and is_first may be None.
    """
    if u.ndim != 3 or u.shape[1] < 1 or u.shape[2] != channels or not u.is_floating_point():
        raise ValueError(f"expected u (B, T >= 1, H = {channels}) real, got {tuple(u.shape)} of {u.dtype}")
    expected = (u.shape[0], channels, pairs, 2)
    if state is not None and (state.shape != expected or not state.is_floating_point()):
        raise ValueError(f"expected state (B, H, N, 2) = {expected} real, got {tuple(state.shape)} of {state.dtype}")
    if is_first is not None and (is_first.shape != u.shape[:2] or is_first.dtype != torch.bool):
        raise ValueError(
            f"expected is_first (B, T) = {tuple(u.shape[:2])} bool, got {tuple(is_first.shape)} of {is_first.dtype}"
        )


def multiply(x: Tensor, y: Tensor) -> Tensor:
    """(x y)_l = sum_{j<=l} x_j y_{l-j} for l < L: x, y (..., L) -> (..., L)."""
    assert x.shape[-1] == y.shape[-1], f"series of different lengths: {x.shape[-1]} and {y.shape[-1]}"
    return _multiply(x, y)


def divide(x: Tensor, divisor: Tensor) -> Tensor:
    """The series q with q divisor = x: x, divisor (..., L) -> (..., L). `divisor` must begin with 1."""
    assert x.shape[-1] == divisor.shape[-1], f"series of different lengths: {x.shape[-1]} and {divisor.shape[-1]}"
    return _divide(x, divisor)


def shift(x: Tensor) -> Tensor:
    """Multiplication by z: (z x)_0 = 0, (z x)_l = x_{l-1}."""
    return torch.nn.functional.pad(x[..., :-1], (1, 0))


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return _convolve(x, y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return _correlate(y, grad, x.shape), _correlate(x, grad, y.shape)


class _Divide(torch.autograd.Function):
    """With w = 1 / divisor: d quotient = w (dx - quotient d divisor); the adjoint of a product is a correlation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, divisor: Tensor) -> Tensor:
        inverse = _inverse(divisor)
        quotient = _convolve(inverse, x)
        ctx.save_for_backward(inverse, quotient)
        ctx.shapes = x.shape, divisor.shape
        return quotient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        inverse, quotient = ctx.saved_tensors
        of_x, of_divisor = ctx.shapes
        grad_product = _correlate(inverse, grad, grad.shape)
        return grad_product.sum_to_size(of_x), -_correlate(quotient, grad_product, of_divisor)


_multiply: Callable[..., Tensor] = _Multiply.apply
_divide: Callable[..., Tensor] = _Divide.apply


def _inverse(divisor: Tensor) -> Tensor:
    """1 / divisor by Newton's iteration w <- w - w (divisor w - 1), which doubles the number of exact coefficients.

    With n coefficients known and m <= 2n wanted, divisor w - 1 begins at z^n: a cyclic product of size m suffices,
    since what wraps around lands below n.
    """
    lengths, wanted = [], divisor.shape[-1]
    while wanted > 1:  # .., length / 4, length / 2, length, rounded up: each at most twice the one before
        lengths.append(wanted)
        wanted = -(-wanted // 2)
    inverse = torch.ones_like(divisor[..., :1])
    for wanted in reversed(lengths):
        known, size = inverse.shape[-1], smooth(wanted)
        spectrum = torch.fft.rfft(inverse, size)
        residual = torch.fft.irfft(torch.fft.rfft(divisor[..., :wanted], size) * spectrum, size)[..., known:wanted]
        correction = torch.fft.irfft(torch.fft.rfft(residual, size) * spectrum, size)[..., : wanted - known]
        inverse = torch.cat([inverse, -correction], dim=-1)
    return inverse


def _convolve(x: Tensor, y: Tensor) -> Tensor:
    length = x.shape[-1]
    size = fft_size(length)
    return torch.fft.irfft(torch.fft.rfft(x, size) * torch.fft.rfft(y, size), size)[..., :length]


def _correlate(x: Tensor, grad: Tensor, shape: torch.Size) -> Tensor:
    """out_j = sum_{l>=j} grad_l x_{l-j}, the adjoint of multiplication by x; summed over what `shape` lacks."""
    length = grad.shape[-1]
    size = fft_size(length)
    product = torch.fft.rfft(x, size).conj() * torch.fft.rfft(grad, size)
    return torch.fft.irfft(product.sum_to_size(*shape[:-1], product.shape[-1]), size)[..., :length]


def fft_size(length: int) -> int:
    """A fast size that holds the product of two series of `length` without wrap-around."""
    return smooth(2 * length - 1)


@functools.cache
def smooth(least: int) -> int:
    """The smallest 2^i 3^j 5^k >= least: FFTs of such sizes are fast."""
    # `scipy.fft.next_fast_len` would do, but this package needs PyTorch alone.
    sizes = (2**i * 3**j * 5**k for i, j, k in itertools.product(range(least.bit_length() + 1), range(8), range(6)))
    return min(size for size in sizes if size >= least)


def toeplitz(x: Tensor) -> Tensor:
    """The matrix that multiplies by x: (..., L) -> (..., L, L) with entries x_{t-j}, zero for j > t."""
    length = x.shape[-1]
    return torch.nn.functional.pad(x.flip(-1), (0, length - 1)).unfold(-1, length, 1).flip(-2)


WORKSPACE = 1 << 16
"""Elements of one table (1 MiB) on the CPU: channels go through in blocks, so that tables stay in the cache."""


def geometric_sums(left: Tensor, right: Tensor, ratio: Tensor, length: int) -> Tensor:
    """out[h, x, y, l] = 2 Re sum_n left[h, x, n] right[h, y, n] ratio[h, n]^l.

    `left` (H, X, N), `right` (H, Y, N), `ratio` (H, N) complex -> (H, X, Y, length) real.
    With l = J i + j the sum is a product of two real matrices per channel, (left ratio^{J i}) and (right ratio^j):
    about 2 sqrt(length X Y) powers instead of length, and nothing of size H x N x length.
    """
    return _geometric_sums(left, right, ratio, length)


def powers(ratio: Tensor, count: int) -> Tensor:
    """ratio^0 .. ratio^{count-1} on a new axis before the last: (..., N) -> (..., count, N), by doubling."""
    table = torch.stack([torch.ones_like(ratio), ratio], dim=-2)
    while table.shape[-2] < count:
        table = torch.cat([table, table * (table[..., -1:, :] * ratio.unsqueeze(-2))], dim=-2)
    return table[..., :count, :]


class _GeometricSums(torch.autograd.Function):
    """Saves its inputs only and builds the tables again in the backward pass, block by block."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, ratio: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(left, right, ratio)
        ctx.length = length
        return torch.cat([_sums(length, *block) for block in _blocks(length, left, right, ratio)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        left, right, ratio = ctx.saved_tensors
        blocks = [_sums_adjoint(ctx.length, *block) for block in _blocks(ctx.length, left, right, ratio, grad)]
        of_left, of_right, of_ratio = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        return of_left, of_right, of_ratio, None


_geometric_sums: Callable[..., Tensor] = _GeometricSums.apply


def _sums(length: int, left: Tensor, right: Tensor, ratio: Tensor) -> Tensor:
    channels, x, y = left.shape[0], left.shape[1], right.shape[1]
    rows, columns = _split(length, x, y)
    left_table, right_table, _, _ = _tables(left, right, ratio, rows, columns)
    product = _real(left_table) @ _real(right_table).mT
    product = product.view(channels, x, rows, y, columns).transpose(2, 3)
    return product.reshape(channels, x, y, rows * columns)[..., :length]


def _sums_adjoint(
    length: int, left: Tensor, right: Tensor, ratio: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    channels, x, y = left.shape[0], left.shape[1], right.shape[1]
    rows, columns = _split(length, x, y)
    left_table, right_table, left_powers, right_powers = _tables(left, right, ratio, rows, columns)
    grad = torch.nn.functional.pad(grad, (0, rows * columns - length)).view(channels, x, y, rows, columns)
    grad = grad.transpose(2, 3).reshape(channels, x * rows, y * columns)
    grad_left_table = _complex(grad @ _real(right_table)).view_as(left_table)
    grad_right_table = _complex(grad.mT @ _real(left_table)).view_as(right_table)
    grad_left, grad_base = _table_adjoint(grad_left_table, 2 * left.conj(), left_powers)
    grad_right, grad_ratio = _table_adjoint(grad_right_table, right, right_powers)
    grad_ratio = grad_ratio + grad_base.conj() * (columns * right_powers[:, -1]).conj()
    return 2 * grad_left.conj(), grad_right, grad_ratio


def _tables(
    left: Tensor, right: Tensor, ratio: Tensor, rows: int, columns: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """2 conj(left ratio^{J i}) (H, X, I, N) and right ratio^j (H, Y, J, N), with the powers in each.

    The conjugate makes 2 Re(a b) the plain dot product of (Re, Im) pairs.
    """
    right_powers = powers(ratio, columns)
    left_powers = powers((right_powers[:, -1] * ratio).conj(), rows)
    left_table = (2 * left.conj()).unsqueeze(2) * left_powers.unsqueeze(1)
    right_table = right.unsqueeze(2) * right_powers.unsqueeze(1)
    return left_table, right_table, left_powers, right_powers


def _table_adjoint(grad: Tensor, factor: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of factor[h, y, n] base[h, n]^j, with table = base^j, in `factor` and `base`."""
    grad_factor = (grad * table.conj().unsqueeze(1)).sum(2)
    grad_powers = (grad * factor.conj().unsqueeze(2)).sum(1)
    exponents = torch.arange(1, table.shape[1], device=table.device, dtype=table.real.dtype)
    grad_base = (grad_powers[:, 1:] * (exponents[:, None] * table[:, :-1]).conj()).sum(1)
    return grad_factor, grad_base


def _split(length: int, x: int, y: int) -> tuple[int, int]:
    """(I, J) with I J >= length and both tables, X I and Y J rows, of about the same size."""
    columns = min(length, max(1, round(math.sqrt(length * x / y))))
    return -(-length // columns), columns


def _blocks(length: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors cut into blocks of channels whose tables fit the workspace; one block where memory is not cached."""
    left, right = tensors[0], tensors[1]
    rows, columns = _split(length, left.shape[1], right.shape[1])
    per_channel = max(left.shape[1] * rows, right.shape[1] * columns) * left.shape[2]
    size = max(1, WORKSPACE // per_channel) if left.device.type == "cpu" else left.shape[0]
    return list(zip(*(torch.split(tensor, size) for tensor in tensors), strict=True))


def _real(table: Tensor) -> Tensor:
    """(H, X, I, N) complex -> (H, X I, 2N) real."""
    return torch.view_as_real(table.resolve_conj()).flatten(-2).flatten(1, 2)


def _complex(x: Tensor) -> Tensor:
    """(..., 2N) real -> (..., N) complex."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
