"""Sums of exponentials in Triton, by two levels, as matrix products in registers. Importing this imports Triton."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from wmkit_kernels.triton_common.ahead_of_time import OPTIONS, Build
from wmkit_kernels.triton_common.complex_pairs import load_pairs, store_pairs, times

ROWS = COLUMNS = 32
"""l = COLUMNS i + j; one program of the forward pass makes ROWS x COLUMNS values of a channel."""

FORWARD = {"M": ROWS, "J": COLUMNS, "N": 32, "num_warps": 4, **OPTIONS}
BACKWARD = {"M": ROWS, "J": COLUMNS, "N": 16, "num_warps": 8, **OPTIONS}
"""Constants of the launches, N numbers x at a time. Fewer warps or, forward, fewer numbers spill registers."""


@triton.jit
def _power(log_real: tl.tensor, log_imag: tl.tensor, k: tl.tensor) -> tl.tensor:
    """exp(k log x), log x in double precision: the angle is reduced to half a turn before it is rounded."""
    turns = log_imag * k * 0.15915494309189535
    angle = ((turns - tl.floor(turns + 0.5)) * 6.283185307179586).to(tl.float32)
    size = tl.exp((log_real * k).to(tl.float32))
    return size * tl.cos(angle), size * tl.sin(angle)


@triton.jit
def vandermonde_forward(
    v: tl.tensor, log_x: tl.tensor, out: tl.tensor, pairs: tl.tensor, length: tl.tensor,
    M: tl.constexpr, J: tl.constexpr, N: tl.constexpr,
) -> None:  # fmt: skip
    """out_l = 2 sum_n Re(v_n x_n^{J i}) (x_n^j) of one channel and M J values of l = J i + j."""
    channel = tl.program_id(0).to(tl.int64)
    i, j = tl.program_id(1) * M + tl.arange(0, M), tl.arange(0, J)
    v += 2 * channel * pairs
    log_x += 2 * channel * pairs
    total = tl.zeros((M, J), tl.float32)
    for first in range(0, pairs, N):
        n = first + tl.arange(0, N)
        vr, vi = load_pairs(v, n, pairs, 0.0)
        lr, li = load_pairs(log_x, n, pairs, 0.0)
        lr, li = lr.to(tl.float64), li.to(tl.float64)
        cr, ci = _power(lr[None, :], li[None, :], (i * J)[:, None].to(tl.float64))
        cr, ci = times(cr, ci, vr[None, :], vi[None, :])
        fr, fi = _power(lr[:, None], li[:, None], j[None, :].to(tl.float64))
        total = tl.dot(cr, fr, total, input_precision="ieee")
        total = tl.dot(-ci, fi, total, input_precision="ieee")
    here = (i * J)[:, None] + j[None, :]
    tl.store(out + channel * length + here, 2.0 * total, mask=here < length)


@triton.jit
def vandermonde_backward(
    grad: tl.tensor, v: tl.tensor, log_x: tl.tensor, of_v: tl.tensor, of_log_x: tl.tensor, pairs: tl.tensor,
    length: tl.tensor, M: tl.constexpr, J: tl.constexpr, N: tl.constexpr,
) -> None:  # fmt: skip
    """S_n = sum_l g_l x_n^l and S'_n = sum_l l g_l x_n^l of one channel and N numbers, over all l in order."""
    channel, n, j = tl.program_id(0).to(tl.int64), tl.program_id(1) * N + tl.arange(0, N), tl.arange(0, J)
    grad += channel * length
    lr, li = load_pairs(log_x + 2 * channel * pairs, n, pairs, 0.0)
    lr, li = lr.to(tl.float64), li.to(tl.float64)
    fr, fi = _power(lr[None, :], li[None, :], tl.minimum(j, length - 1)[:, None].to(tl.float64))
    jr, ji = fr * j[:, None], fi * j[:, None]
    plain_r, plain_i = tl.zeros((N,), tl.float32), tl.zeros((N,), tl.float32)
    weighted_r, weighted_i = plain_r, plain_i
    for first in range(0, length, M * J):
        start = first + tl.arange(0, M) * J
        here = start[:, None] + j[None, :]
        g = tl.load(grad + here, mask=here < length, other=0.0)
        mr, mi = tl.dot(g, fr, input_precision="ieee"), tl.dot(g, fi, input_precision="ieee")
        far = start[:, None].to(tl.float32)
        wr, wi = tl.dot(g, jr, far * mr, input_precision="ieee"), tl.dot(g, ji, far * mi, input_precision="ieee")
        cr, ci = _power(lr[None, :], li[None, :], tl.minimum(start, length - 1)[:, None].to(tl.float64))
        mr, mi = times(cr, ci, mr, mi)
        wr, wi = times(cr, ci, wr, wi)
        plain_r, plain_i = plain_r + tl.sum(mr, axis=0), plain_i + tl.sum(mi, axis=0)
        weighted_r, weighted_i = weighted_r + tl.sum(wr, axis=0), weighted_i + tl.sum(wi, axis=0)
    vr, vi = load_pairs(v + 2 * channel * pairs, n, pairs, 0.0)
    weighted_r, weighted_i = times(weighted_r, weighted_i, vr, vi)
    store_pairs(of_v + 2 * channel * pairs, n, pairs, 2.0 * plain_r, -2.0 * plain_i)
    store_pairs(of_log_x + 2 * channel * pairs, n, pairs, 2.0 * weighted_r, -2.0 * weighted_i)


def forward(v: Tensor, log_x: Tensor, length: int) -> Tensor:
    """For v (H, N) complex64, log_x (H, N) complex64 or complex128 -> (H, length) float32."""
    channels, pairs = v.shape
    out = torch.empty(channels, length, dtype=torch.float32, device=v.device)
    grid = (channels, triton.cdiv(length, ROWS * COLUMNS))
    vandermonde_forward[grid](_pairs(v), _pairs(log_x), out, pairs, length, **FORWARD)
    return out


def backward(grad: Tensor, v: Tensor, log_x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in v and log_x: grad (H, length) float32 -> two (H, N)."""
    channels, pairs = v.shape
    of_v, of_log_x = v.new_empty(v.shape), log_x.new_empty(v.shape)
    grid = (channels, triton.cdiv(pairs, BACKWARD["N"]))
    vandermonde_backward[grid](
        grad.contiguous(), _pairs(v), _pairs(log_x), _pairs(of_v), _pairs(of_log_x), pairs, grad.shape[1],
        **BACKWARD,
    )  # fmt: skip
    return of_v, of_log_x


def _pairs(x: Tensor) -> Tensor:
    """(..., N) complex -> (..., N, 2) real, contiguous; a view where it can be."""
    return torch.view_as_real(x.contiguous())


def _build(kernel: Any, options: dict[str, Any], kind: str) -> Build:
    types = dict.fromkeys(("v", "out", "grad", "of_v"), "*fp32") | dict.fromkeys(("log_x", "of_log_x"), kind)
    types |= {"pairs": "i32", "length": "i32"}
    constants = {name: value for name, value in options.items() if name.isupper()}
    types = {name: types[name] for name in kernel.arg_names if name not in constants}
    return Build(kernel, types, constants, options["num_warps"], kind[1:])


BUILDS = [
    _build(kernel, options, kind)
    for kernel, options in ((vandermonde_forward, FORWARD), (vandermonde_backward, BACKWARD))
    for kind in ("*fp32", "*fp64")
    if hasattr(kernel, "arg_names")
]
