"""`dplr_kernel` in Triton: one program per channel. README.md derives it. Importing this module imports Triton."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from wmkit_kernels.common.series import smooth
from wmkit_kernels.triton_common.ahead_of_time import OPTIONS, Build
from wmkit_kernels.triton_common.complex_pairs import inverse, load_pairs, pair_sum, store_pairs, times

FORWARD_NODES, BACKWARD_NODES = 32, 16
"""Nodes of the transform that a program holds at once."""

LEFT = 0.5
"""|z|^length at the nodes z. On the unit circle (1) a slow decay puts poles next to the nodes, whose contributions
cancel; the smaller, the more rounding grows towards the kernel's end."""


@triton.jit
def _discretise(lr, li, pr, pi, dt):
    """Abar - 1 = diag(step) - gain row."""
    er, ei = inverse(2.0 - dt * lr, -dt * li)
    reach = 1.0 + 2.0 * tl.sum((pr * pr + pi * pi) * (dt * er), axis=0)
    step_r, step_i = times(2.0 * dt * lr, 2.0 * dt * li, er, ei)
    gain_r, gain_i = times(er, ei, pr, pi)
    row_r, row_i = times(dt * er, dt * ei, pr, -pi)
    return step_r, step_i, 4.0 * gain_r / reach, 4.0 * gain_i / reach, row_r, row_i


@triton.jit
def _less_its_power(xr, xi, ar, ai, gr, gi, qr, qi, inner, outer, rest, N: tl.constexpr):
    """X - x M^length for the map x -> x M = x + x a - 2 Re(x g) q and length = inner outer + rest.

    M^inner - 1 is built as a matrix by `inner` steps from all unit vectors, and applied `outer` times. Everything is
    kept as its difference from the identity, so that short steps dt lose no digits.
    """
    n = tl.arange(0, N)
    unit = (n[:, None] == n[None, :]).to(tl.float32)
    ur, ui = tl.zeros((N, N), tl.float32), tl.zeros((N, N), tl.float32)
    vr, vi = tl.zeros((N, N), tl.float32), tl.zeros((N, N), tl.float32)
    for _ in range(inner):
        now_r = ur + unit
        seen = pair_sum(now_r, ui, gr[None, :], gi[None, :])[:, None]
        add_r, add_i = times(now_r, ui, ar[None, :], ai[None, :])
        ur, ui = ur + (add_r - seen * qr[None, :]), ui + (add_i - seen * qi[None, :])
        now_i = vi + unit
        seen = pair_sum(vr, now_i, gr[None, :], gi[None, :])[:, None]
        add_r, add_i = times(vr, now_i, ar[None, :], ai[None, :])
        vr, vi = vr + (add_r - seen * qr[None, :]), vi + (add_i - seen * qi[None, :])
    dr, di = tl.zeros((N,), tl.float32), tl.zeros((N,), tl.float32)
    for _ in range(outer):
        now_r, now_i = (xr + dr)[:, None], (xi + di)[:, None]
        dr, di = dr + tl.sum(now_r * ur + now_i * vr, axis=0), di + tl.sum(now_r * ui + now_i * vi, axis=0)
    for _ in range(rest):
        now_r, now_i = xr + dr, xi + di
        seen = pair_sum(now_r, now_i, gr, gi)
        add_r, add_i = times(now_r, now_i, ar, ai)
        dr, di = dr + (add_r - seen * qr), di + (add_i - seen * qi)
    return -dr, -di


@triton.jit
def _fractions(lr, li, shift_r, shift_i):
    """T = 1 / (s - Lambda) and T' = 1 / (s - conj Lambda): nodes x states."""
    decay = shift_r[:, None] - lr[None, :]
    tr, ti = inverse(decay, shift_i[:, None] - li[None, :])
    cr, ci = inverse(decay, shift_i[:, None] + li[None, :])
    return tr, ti, cr, ci


@triton.jit
def _cauchy(xr, xi, tr, ti, cr, ci):
    """sum_n x_n T_n + conj(x_n) T'_n over the states, at each node."""
    real = tl.sum(xr[None, :] * (tr + cr) - xi[None, :] * (ti - ci), axis=1)
    return real, tl.sum(xr[None, :] * (ti + ci) + xi[None, :] * (tr - cr), axis=1)


@triton.jit
def _solve(xr, xi, pr, pi, kr, ki, tr, ti):
    """T (x - p k): x, p by state, k by node."""
    br, bi = times(pr[None, :], pi[None, :], kr[:, None], ki[:, None])
    return times(tr, ti, xr[None, :] - br, xi[None, :] - bi)


@triton.jit
def _node(nodes, node, count, step):
    """s = 2 zeta / dt and the weight 2 / (1 + z) at the nodes."""
    shift_r, shift_i = load_pairs(nodes, node, count, 1.0)
    weight_r, weight_i = load_pairs(nodes + 2 * count, node, count, 0.0)
    return 2.0 * shift_r / step, 2.0 * shift_i / step, weight_r, weight_i


@triton.jit
def dplr_kernel_forward(
    Lambda, P, B, C, dt, nodes, transform, corrected, channels, pairs, count, left, inner, outer, rest,
    N: tl.constexpr, NODES: tl.constexpr,
):  # fmt: skip
    """The transform of one channel's kernel at all nodes, and its C (1 - left Abar^length)."""
    program = tl.program_id(0).to(tl.int64)
    channel, n = program % channels, tl.arange(0, N)
    lr, li = load_pairs(Lambda, n, pairs, -1.0)
    pr, pi = load_pairs(P, n, pairs, 0.0)
    br, bi = load_pairs(B + 2 * (program // channels) * pairs, n, pairs, 0.0)
    cr, ci = load_pairs(C + 2 * channel * pairs, n, pairs, 0.0)
    step = tl.maximum(tl.load(dt + channel), 1e-12)
    ar, ai, gr, gi, qr, qi = _discretise(lr, li, pr, pi, step)
    dr, di = _less_its_power(cr, ci, ar, ai, gr, gi, qr, qi, inner, outer, rest, N)
    cr, ci = (1.0 - left) * cr + left * dr, (1.0 - left) * ci + left * di
    store_pairs(corrected + 2 * program * pairs, n, pairs, cr, ci)
    cbr, cbi = times(cr, ci, br, bi)
    cpr, cpi = times(cr, ci, pr, pi)
    pbr, pbi = times(pr, -pi, br, bi)
    for start in range(0, count, NODES):
        node = start + tl.arange(0, NODES)
        shift_r, shift_i, weight_r, weight_i = _node(nodes, node, count, step)
        tr, ti, sr, si = _fractions(lr, li, shift_r, shift_i)
        direct_r, direct_i = _cauchy(cbr, cbi, tr, ti, sr, si)
        row_r, row_i = _cauchy(cpr, cpi, tr, ti, sr, si)
        column_r, column_i = _cauchy(pbr, pbi, tr, ti, sr, si)
        both_r, both_i = _cauchy(pr * pr + pi * pi, 0.0 * pr, tr, ti, sr, si)
        through_r, through_i = inverse(1.0 + both_r, both_i)
        column_r, column_i = times(column_r, column_i, through_r, through_i)
        low_r, low_i = times(row_r, row_i, column_r, column_i)
        fr, fi = times(direct_r - low_r, direct_i - low_i, weight_r, weight_i)
        store_pairs(transform + 2 * program * count, node, count, fr, fi)


@triton.jit
def dplr_kernel_backward(
    Lambda, P, B, dt, nodes, corrected, grad, of_Lambda, of_P, of_B, of_C, of_dt,
    channels, pairs, count, left, inner, outer, rest, N: tl.constexpr, NODES: tl.constexpr,
):  # fmt: skip
    """One channel's share of all gradients, from the transform of the kernel's gradient."""
    program = tl.program_id(0).to(tl.int64)
    channel, n = program % channels, tl.arange(0, N)
    lr, li = load_pairs(Lambda, n, pairs, -1.0)
    pr, pi = load_pairs(P, n, pairs, 0.0)
    br, bi = load_pairs(B + 2 * (program // channels) * pairs, n, pairs, 0.0)
    step = tl.maximum(tl.load(dt + channel), 1e-12)
    pbr, pbi = times(pr, -pi, br, bi)
    power, length = pr * pr + pi * pi, 2.0 * (count - 1)
    grad += 2 * program * count

    # 1. The gradient of C~: sum over the nodes of weight times (the state's transform).
    sum_r, sum_i = tl.zeros((NODES, N), tl.float32), tl.zeros((NODES, N), tl.float32)
    for start in range(0, count, NODES):
        node = start + tl.arange(0, NODES)
        shift_r, shift_i, weight_r, weight_i = _node(nodes, node, count, step)
        wr, wi = _seen_by(grad, node, count, length, weight_r, weight_i)
        tr, ti, sr, si = _fractions(lr, li, shift_r, shift_i)
        both_r, both_i = _cauchy(power, 0.0 * power, tr, ti, sr, si)
        through_r, through_i = inverse(1.0 + both_r, both_i)
        kr, ki = _cauchy(pbr, pbi, tr, ti, sr, si)
        kr, ki = times(kr, ki, through_r, through_i)
        xr, xi = _solve(br, bi, pr, pi, kr, ki, tr, ti)
        yr, yi = _solve(br, -bi, pr, -pi, kr, ki, sr, si)
        xr, xi = times(xr, xi, wr[:, None], wi[:, None])
        yr, yi = times(yr, yi, wr[:, None], wi[:, None])
        sum_r, sum_i = sum_r + (xr + yr), sum_i + (xi - yi)

    # 2. That of C = C~ / (1 - left Abar^length).
    ar, ai, gr, gi, qr, qi = _discretise(lr, li, pr, pi, step)
    total_r, total_i = tl.sum(sum_r, axis=0), tl.sum(sum_i, axis=0)
    vr, vi = _less_its_power(total_r, total_i, ar, ai, qr, qi, gr, gi, inner, outer, rest, N)
    vr, vi = (1.0 - left) * total_r + left * vr, (1.0 - left) * total_i + left * vi
    store_pairs(of_C + 2 * program * pairs, n, pairs, vr, -vi)
    vr, vi = 0.5 * vr, 0.5 * vi

    # 3. The rest, through the transform and through Abar^length at once.
    cr, ci = load_pairs(corrected + 2 * program * pairs, n, pairs, 0.0)
    cpr, cpi = times(cr, ci, pr, pi)
    pvr, pvi = times(pr, -pi, vr, vi)
    lambda_r, lambda_i = tl.zeros((NODES, N), tl.float32), tl.zeros((NODES, N), tl.float32)
    low_r, low_i = tl.zeros((NODES, N), tl.float32), tl.zeros((NODES, N), tl.float32)
    in_r, in_i = tl.zeros((NODES, N), tl.float32), tl.zeros((NODES, N), tl.float32)
    slope = tl.zeros((NODES,), tl.float32)
    for start in range(0, count, NODES):
        node = start + tl.arange(0, NODES)
        shift_r, shift_i, weight_r, weight_i = _node(nodes, node, count, step)
        wr, wi = _seen_by(grad, node, count, length, weight_r, weight_i)
        hr, hi = load_pairs(nodes + 4 * count, node, count, 0.0)
        share = _multiplicity(node, count) / (length * step)
        hr, hi = share * hr, share * hi
        tr, ti, sr, si = _fractions(lr, li, shift_r, shift_i)
        both_r, both_i = _cauchy(power, 0.0 * power, tr, ti, sr, si)
        through_r, through_i = inverse(1.0 + both_r, both_i)
        mr, mi = _cauchy(cpr, cpi, tr, ti, sr, si)
        mr, mi = times(mr, mi, through_r, through_i)
        kr, ki = _cauchy(pbr, pbi, tr, ti, sr, si)
        kr, ki = times(kr, ki, through_r, through_i)
        jr, ji = _cauchy(pvr, pvi, tr, ti, sr, si)
        jr, ji = times(jr, ji, through_r, through_i)
        # Rows C~ X^{-1} and columns X^{-1} B, X^{-1} v, for one of each pair and for its conjugate (2).
        row_r, row_i = _solve(cr, ci, pr, -pi, mr, mi, tr, ti)
        row2_r, row2_i = _solve(cr, -ci, pr, pi, mr, mi, sr, si)
        xr, xi = _solve(br, bi, pr, pi, kr, ki, tr, ti)
        x2r, x2i = _solve(br, -bi, pr, -pi, kr, ki, sr, si)
        er, ei = _solve(vr, vi, pr, pi, jr, ji, tr, ti)
        e2r, e2i = _solve(vr, -vi, pr, -pi, jr, ji, sr, si)
        # d dt: through s, and through dt A in Abar^length.
        zr, zi = times(row_r, row_i, xr, xi)
        z2r, z2i = times(row2_r, row2_i, x2r, x2i)
        zr, zi = times(tl.sum(zr + z2r, axis=1), tl.sum(zi + z2i, axis=1), shift_r, shift_i)
        through_s = wr * zr - wi * zi
        zr, zi = times(row_r, row_i, er, ei)
        z2r, z2i = times(row2_r, row2_i, e2r, e2i)
        flow_r = tl.sum((zr + z2r) * lr[None, :] - (zi - z2i) * li[None, :], axis=1) - (mr * jr - mi * ji)
        flow_i = tl.sum((zi + z2i) * lr[None, :] + (zr - z2r) * li[None, :], axis=1) - (mr * ji + mi * jr)
        slope += (through_s - (hr * flow_r - hi * flow_i)) / step
        # d B.
        zr, zi = times(row_r, row_i, wr[:, None], wi[:, None])
        z2r, z2i = times(row2_r, row2_i, wr[:, None], wi[:, None])
        in_r, in_i = in_r + (zr + z2r), in_i + (zi - z2i)
        # d A = d Lambda - d P P^* - P d P^*, seen from the left by rows, from the right by w X^{-1} B - h X^{-1} v.
        zr, zi = times(xr, xi, wr[:, None], wi[:, None])
        er, ei = times(er, ei, hr[:, None], hi[:, None])
        xr, xi = zr - er, zi - ei
        z2r, z2i = times(x2r, x2i, wr[:, None], wi[:, None])
        e2r, e2i = times(e2r, e2i, hr[:, None], hi[:, None])
        x2r, x2i = z2r - e2r, z2i - e2i
        kr, ki = times(kr, ki, wr, wi)
        jr, ji = times(jr, ji, hr, hi)
        kr, ki = kr - jr, ki - ji
        zr, zi = times(row_r, row_i, xr, xi)
        z2r, z2i = times(row2_r, row2_i, x2r, x2i)
        lambda_r, lambda_i = lambda_r + (zr + z2r), lambda_i + (zi - z2i)
        zr, zi = times(row_r, row_i, kr[:, None], ki[:, None])
        z2r, z2i = times(row2_r, row2_i, kr[:, None], ki[:, None])
        fr, fi = times(x2r, x2i, mr[:, None], mi[:, None])
        f2r, f2i = times(xr, xi, mr[:, None], mi[:, None])
        low_r, low_i = low_r - (zr + z2r + fr + f2r), low_i - (zi - z2i + fi - f2i)
    here = 2 * program * pairs
    store_pairs(of_Lambda + here, n, pairs, tl.sum(lambda_r, axis=0), -tl.sum(lambda_i, axis=0))
    store_pairs(of_P + here, n, pairs, tl.sum(low_r, axis=0), -tl.sum(low_i, axis=0))
    store_pairs(of_B + here, n, pairs, tl.sum(in_r, axis=0), -tl.sum(in_i, axis=0))
    tl.store(of_dt + program, tl.sum(slope, axis=0))


@triton.jit
def _multiplicity(node, count):
    """How often a node stands among all roots of unity: the first and the last once, the others twice, none outside."""
    single = (node == 0) | (node == count - 1)
    return tl.where(node < count, tl.where(single, 1.0, 2.0), 0.0)


@triton.jit
def _seen_by(grad, node, count, length, weight_r, weight_i):
    """What the loss sees of C~ X^{-1} B: conj(gradient of the transform) times the weight."""
    real, imaginary = load_pairs(grad, node, count, 0.0)
    scale = _multiplicity(node, count) / length
    return times(scale * real, -scale * imaginary, weight_r, weight_i)


def forward(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """k (M, H, length) and C~ (M, H, N, 2) of float32 tensors; Lambda, P (N, 2), B (M, N, 2), C (H, N, 2), dt (H,)."""
    Lambda, P, B, C, dt = (x.contiguous() for x in (Lambda, P, B, C, dt))
    count, lead = node_count(length), (B.shape[0], C.shape[0])
    table, growth = circle(count, C.device)
    transform = torch.empty(*lead, count, 2, dtype=torch.float32, device=C.device)
    corrected = torch.empty(*lead, *C.shape[1:], dtype=torch.float32, device=C.device)
    dplr_kernel_forward[(lead[0] * lead[1],)](
        Lambda, P, B, C, dt, table, transform, corrected, *_numbers(C, count), NODES=FORWARD_NODES, **_launch(C)
    )
    k = torch.fft.irfft(torch.view_as_complex(transform), 2 * (count - 1))
    return k[..., :length] * growth[:length], corrected


def backward(
    Lambda: Tensor, P: Tensor, B: Tensor, dt: Tensor, corrected: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of Lambda, P, B, C and dt from that of k; `corrected` as `forward` gave it.

    Every program writes its own share; sums over programs come after, in a fixed order.
    """
    Lambda, P, B, dt, corrected = (x.contiguous() for x in (Lambda, P, B, dt, corrected))
    length, C = grad.shape[-1], corrected[0]
    count = node_count(length)
    table, growth = circle(count, dt.device)
    seen = torch.view_as_real(torch.fft.rfft(grad * growth[:length], 2 * (count - 1)))
    of_Lambda, of_P, of_B, of_C = (torch.empty_like(corrected) for _ in range(4))
    of_dt = corrected.new_empty(corrected.shape[:2])
    dplr_kernel_backward[(of_dt.numel(),)](
        Lambda, P, B, dt, table, corrected, seen.contiguous(), of_Lambda, of_P, of_B, of_C, of_dt,
        *_numbers(C, count), NODES=BACKWARD_NODES, **_launch(C),
    )  # fmt: skip
    return of_Lambda.sum((0, 1)), of_P.sum((0, 1)), of_B.sum(1), of_C.sum(0), of_dt.sum(0)


def node_count(length: int) -> int:
    """Nodes on the upper half circle: the transform has the smallest even 2^i 3^j 5^k >= length points."""
    return smooth(-(-length // 2)) + 1


@functools.lru_cache(maxsize=16)
def circle(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """zeta, 2 / (1 + z) and 4 z / (1 + z)^2 at the nodes (3, count, 2), and the growth |z|^-l for 2 (count - 1) l."""
    length = 2 * (count - 1)
    angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / length)
    z = torch.polar(torch.full_like(angle, LEFT ** (1 / length)), -angle)
    table = torch.stack([(1 - z) / (1 + z), 2 / (1 + z), 4 * z / (1 + z).square()])
    growth = LEFT ** (-torch.arange(length, dtype=torch.float64) / length)
    return torch.view_as_real(table).float().to(device), growth.float().to(device)


def _numbers(C: Tensor, count: int) -> tuple[int, int, int, float, int, int, int]:
    """(channels, pairs, count, left, inner, outer, rest) of the kernels."""
    length = 2 * (count - 1)
    inner = 1 << (int(math.log2(length)) // 2)
    return C.shape[0], C.shape[1], count, LEFT, inner, length // inner, length % inner


def _launch(C: Tensor) -> dict[str, Any]:
    """States padded to a power of two, and as many warps as hold a matrix over them in registers."""
    N = max(16, triton.next_power_of_2(C.shape[1]))
    return {"N": N, "num_warps": _warps(N), **OPTIONS}


def _warps(N: int) -> int:
    return 4 if N <= 32 else 16


def _build(kernel: Any, N: int, nodes: int) -> Build:
    numbers = dict.fromkeys(("channels", "pairs", "count", "inner", "outer", "rest"), "i32") | {"left": "fp32"}
    pointers = [name for name in kernel.arg_names if name not in (*numbers, "N", "NODES")]
    types = {**dict.fromkeys(pointers, "*fp32"), **numbers}
    return Build(kernel, types, {"N": N, "NODES": nodes}, _warps(N), f"N{N}")


BUILDS = [
    _build(kernel, N, nodes)
    for N in (16, 32, 64)
    for kernel, nodes in ((dplr_kernel_forward, FORWARD_NODES), (dplr_kernel_backward, BACKWARD_NODES))
    if hasattr(kernel, "arg_names")
]
