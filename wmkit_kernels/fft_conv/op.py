"""Causal convolution along time by FFT.

`fft_conv` in plain PyTorch, channels in blocks: what lies between the transforms never leaves the cache.

Channels come first while the transforms run, so that time is contiguous. The transpose into that order is one of a
whole matrix, which PyTorch copies three times as fast as a permutation of axes; the way back is written by blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wmkit_kernels.common.operator import operator
from wmkit_kernels.common.series import fft_size

WORKSPACE = 1 << 19
"""Padded real numbers of one block (2 MiB in single precision) on the CPU, where `ROWS` does not ask for more. From a
quarter of it to twice as many the time is the same; all channels at once take twice as long."""

ROWS = 32
"""At least so many rows are in a block (4 MiB of them at 16,384 steps): every call of a transform makes its table of
roots anew, which takes as long as ten rows."""


def _in_blocks(k: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """k (H, T), u (B, T, H) real -> (y (B, T, H), u with channels first (H, B, T), which the backward pass takes)."""
    y, inputs = torch.empty_like(u, memory_format=torch.contiguous_format), _channels_first(u)  # (B, T, H), (H, B, T)
    rows = _Rows(inputs)
    for channels in rows.blocks():
        spectrum = rows.transform(inputs[channels]).mul_(torch.fft.rfft(k[channels], rows.size).unsqueeze(1))
        y[..., channels] = rows.channels_last(spectrum)
    return y, inputs


def _in_blocks_backward(grad: Tensor, k: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in k and u, both correlations with `grad` (B, T, H), which is transformed once for the two."""
    of_k, of_u = torch.empty_like(k, memory_format=torch.contiguous_format), grad.new_empty(grad.shape)
    length, outputs, rows = grad.shape[1], _channels_first(grad), _Rows(inputs)
    for channels in rows.blocks():
        spectrum = rows.transform(outputs[channels])
        product = rows.transform(inputs[channels]).conj_physical_().mul_(spectrum)
        of_k[channels] = torch.fft.irfft(_sum_rows(product), rows.size)[..., :length]
        spectrum.mul_(torch.fft.rfft(k[channels], rows.size).conj_physical_().unsqueeze(1))
        of_u[..., channels] = rows.channels_last(spectrum)
    return of_k, of_u


class _Rows:
    """Rows of (H, B, T), zero-padded to a fast size in one buffer that all blocks of channels use in turn."""

    def __init__(self, inputs: Tensor) -> None:
        self.channels, batch, self.length = inputs.shape
        self.size = fft_size(self.length)
        cached = max(WORKSPACE // max(1, batch * self.size), -(-ROWS // max(1, batch)))
        self.step = max(1, min(self.channels, cached if inputs.device.type == "cpu" else self.channels))
        self.padded = inputs.new_zeros(self.step, batch, self.size)

    def blocks(self) -> Iterator[slice]:
        """Channels whose padded rows fit the workspace; all of them where memory is not cached."""
        starts = range(0, self.channels, self.step)
        return (slice(start, min(start + self.step, self.channels)) for start in starts)

    def transform(self, block: Tensor) -> Tensor:
        """(C, B, T) -> the spectrum (C, B, F) of the padded rows."""
        rows = self.padded[: block.shape[0]]
        rows[..., : self.length] = block
        return torch.fft.rfft(rows)

    def channels_last(self, spectrum: Tensor) -> Tensor:
        """The first T steps of what has this spectrum: (C, B, F) -> (B, T, C), a view."""
        return torch.fft.irfft(spectrum, self.size)[..., : self.length].permute(1, 2, 0)


def _channels_first(x: Tensor) -> Tensor:
    """(B, T, H) -> (H, B, T), always a copy."""
    matrix = x.reshape(-1, x.shape[2]).t()
    return matrix.clone(memory_format=torch.contiguous_format).view(x.shape[2], x.shape[0], x.shape[1])


def _sum_rows(x: Tensor) -> Tensor:
    """(C, B, F) complex -> (C, F); as pairs of real numbers, which PyTorch adds up ten times as fast."""
    return torch.view_as_complex(torch.view_as_real(x).sum(1))


def fft_conv(k: Tensor, u: Tensor) -> Tensor:
    """y[b, t, h] = sum_{j<=t} k[h, j] u[b, t-j, h]: k (H, L), u (B, T, H) -> (B, T, H), for L >= T.

    Real, at least float32: under autocast, and for half-precision input, it works and answers in float32. The result is
    contiguous. Differentiable (once) in both. What reaches the output at once, y += d u, costs nothing as k[:, 0] += d.
    Raises `ValueError` where the shapes do not fit or the kernel is shorter than the input.
    """
    if k.ndim != 2 or u.ndim != 3 or k.shape[0] != u.shape[2] or k.shape[1] < u.shape[1]:
        raise ValueError(
            f"expected k (H, L) and u (B, T, H) with L >= T, got k {tuple(k.shape)} and u {tuple(u.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(k.dtype, u.dtype), torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        k, u = k[:, : u.shape[1]].to(dtype), u.to(dtype)
        return _conv(k, u)[0] if torch.compiler.is_compiling() else _convolve(k, u)


class _Convolve(torch.autograd.Function):
    """For everyday calls: the first one of a registered op loads PyTorch's compiler, which takes seconds."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, u: Tensor) -> Tensor:
        y, inputs = _in_blocks(k, u)
        ctx.save_for_backward(k, inputs)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return _in_blocks_backward(grad, *ctx.saved_tensors)


_convolve: Callable[..., Tensor] = _Convolve.apply


@operator("fft_conv")
def _conv(k: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """y and what the backward pass needs, for PyTorch's compiler, which makes no code for complex numbers."""
    return _in_blocks(k, u)


@operator("fft_conv_backward")
def _conv_backward(grad: Tensor, k: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    return _in_blocks_backward(grad, k, inputs)


@_conv.register_fake
def _(k: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), u.new_empty(u.shape[2], u.shape[0], u.shape[1])


@_conv_backward.register_fake
def _(grad: Tensor, k: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    return k.new_empty(k.shape), grad.new_empty(grad.shape)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], output[1])
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
    of_k, of_u = _conv_backward(grad, *ctx.saved_tensors)
    return of_k, of_u


_conv.register_autograd(_differentiate, setup_context=_remember)
