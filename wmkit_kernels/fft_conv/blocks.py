"""`fft_conv` in plain PyTorch, channels in blocks: what lies between the transforms never leaves the cache.

Channels come first while the transforms run, so that time is contiguous. The transpose into that order is one of a
whole matrix, which PyTorch copies three times as fast as a permutation of axes; the way back is written by blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from wmkit_kernels.power_series import fft_size

WORKSPACE = 1 << 19
"""Padded real numbers of one block (2 MiB in single precision) on the CPU. From a quarter of it to twice as many the
time is the same; all channels at once take twice as long."""


def forward(k: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """k (H, T), u (B, T, H) real -> (y (B, T, H), u with channels first (H, B, T), which `backward` takes)."""
    y, inputs = torch.empty_like(u, memory_format=torch.contiguous_format), _channels_first(u)
    size = fft_size(u.shape[1])
    for channels in _blocks(inputs, size):
        spectrum = torch.fft.rfft(inputs[channels], size).mul_(torch.fft.rfft(k[channels], size).unsqueeze(1))
        y[..., channels] = _channels_last(spectrum, size, u.shape[1])
    return y, inputs


def backward(grad: Tensor, k: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in k and u, both correlations with `grad` (B, T, H), which is transformed once for the two."""
    of_k, of_u = torch.empty_like(k, memory_format=torch.contiguous_format), grad.new_empty(grad.shape)
    length, outputs = grad.shape[1], _channels_first(grad)
    size = fft_size(length)
    for channels in _blocks(inputs, size):
        spectrum = torch.fft.rfft(outputs[channels], size)
        product = torch.fft.rfft(inputs[channels], size).conj_physical_().mul_(spectrum)
        of_k[channels] = torch.fft.irfft(_sum_rows(product), size)[..., :length]
        spectrum.mul_(torch.fft.rfft(k[channels], size).conj_physical_().unsqueeze(1))
        of_u[..., channels] = _channels_last(spectrum, size, length)
    return of_k, of_u


def _channels_first(x: Tensor) -> Tensor:
    """(B, T, H) -> (H, B, T), always a copy."""
    matrix = x.reshape(-1, x.shape[2]).t()
    return matrix.clone(memory_format=torch.contiguous_format).view(x.shape[2], x.shape[0], x.shape[1])


def _channels_last(spectrum: Tensor, size: int, length: int) -> Tensor:
    """The first `length` steps of what has this spectrum: (C, B, F) -> (B, length, C), a view."""
    return torch.fft.irfft(spectrum, size)[..., :length].permute(1, 2, 0)


def _sum_rows(x: Tensor) -> Tensor:
    """(C, B, F) complex -> (C, F); as pairs of real numbers, which PyTorch adds up ten times as fast."""
    return torch.view_as_complex(torch.view_as_real(x).sum(1))


def _blocks(inputs: Tensor, size: int) -> Iterator[slice]:
    """Channels of (H, B, T) in blocks whose padded rows fit the workspace; one block where memory is not cached."""
    count, batch, _ = inputs.shape
    step = max(1, WORKSPACE // max(1, batch * size)) if inputs.device.type == "cpu" else max(1, count)
    return (slice(start, start + step) for start in range(0, count, step))
