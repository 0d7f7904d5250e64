"""Causal convolution along time by FFT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wmkit_kernels.fft_conv import blocks


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
        y, inputs = blocks.forward(k, u)
        ctx.save_for_backward(k, inputs)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return blocks.backward(grad, *ctx.saved_tensors)


_convolve: Callable[..., Tensor] = _Convolve.apply


@torch.library.custom_op("wmkit::fft_conv", mutates_args=())
def _conv(k: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """y and what the backward pass needs, for PyTorch's compiler, which makes no code for complex numbers."""
    return blocks.forward(k, u)


@torch.library.custom_op("wmkit::fft_conv_backward", mutates_args=())
def _conv_backward(grad: Tensor, k: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    return blocks.backward(grad, k, inputs)


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
