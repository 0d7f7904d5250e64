"""Products and quotients of truncated power series by FFT: causal convolution and its inverse.

A series is its real coefficients x_0 .. x_{L-1} on the last axis; other axes broadcast. Backward passes are written
by hand: autograd's own backward of `rfft` is a full complex transform, four times the work.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
