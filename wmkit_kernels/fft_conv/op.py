"""Causal convolution along time by FFT."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wmkit_kernels.opaque import apart, vector_jacobian
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
        k, u = k[:, : u.shape[1]].to(dtype), u.to(dtype)
        return _opaque(k, u) if torch.compiler.is_compiling() else _convolve(k, u)


def _convolve(k: Tensor, u: Tensor) -> Tensor:
    return multiply(k, u.mT).mT


@torch.library.custom_op("wmkit::fft_conv", mutates_args=())
def _opaque(k: Tensor, u: Tensor) -> Tensor:
    """`_convolve`, for PyTorch's compiler, which makes no code for complex numbers."""
    return apart(u.device, _convolve, k, u).contiguous()


@_opaque.register_fake
def _(k: Tensor, u: Tensor) -> Tensor:
    return u.new_empty(u.shape)


@torch.library.custom_op("wmkit::fft_conv_backward", mutates_args=())
def _opaque_backward(k: Tensor, u: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    of_k, of_u = vector_jacobian(_convolve, (k, u), (grad,))
    return of_k, of_u


@_opaque_backward.register_fake
def _(k: Tensor, u: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    return k.new_empty(k.shape), u.new_empty(u.shape)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    of_k, of_u = _opaque_backward(*ctx.saved_tensors, grad)
    return of_k, of_u


_opaque.register_autograd(_differentiate, setup_context=_remember)
