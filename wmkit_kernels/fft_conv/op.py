"""Causal convolution along time by FFT."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit_kernels.power_series import multiply


def fft_conv(k: Tensor, u: Tensor) -> Tensor:
    """y[b, t, h] = sum_{j<=t} k[h, j] u[b, t-j, h]: k (H, L), u (B, T, H) -> (B, T, H), for L >= T.

    Real, at least float32: under autocast, and for half-precision input, it works and answers in float32.
    Raises `ValueError` where the shapes do not fit or the kernel is shorter than the input.
    """
    if k.ndim != 2 or u.ndim != 3 or k.shape[0] != u.shape[2] or k.shape[1] < u.shape[1]:
        raise ValueError(
            f"expected k (H, L) and u (B, T, H) with L >= T, got k {tuple(k.shape)} and u {tuple(u.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(k.dtype, u.dtype), torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        y = multiply(k[:, : u.shape[1]].to(dtype), u.mT.to(dtype))
    return y.mT
