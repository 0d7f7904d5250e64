"""The DPLR recurrence in Triton: one program per row and tile of channels. Importing this module imports Triton."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from wmkit_kernels.dplr.chunks import KEPT_EVERY, kept_count
from wmkit_kernels.triton_common.ahead_of_time import OPTIONS, Build
from wmkit_kernels.triton_common.complex_pairs import pair_sum, times

TILE = 128
"""Complex numbers of state that one program of one warp carries: four per thread."""


@triton.jit
def _load(pairs, inside):
    """Complex numbers (real, imaginary); zeros outside."""
    return tl.load(pairs, mask=inside, other=0.0), tl.load(pairs + 1, mask=inside, other=0.0)


@triton.jit
def _store(pairs, inside, real, imaginary):
    tl.store(pairs, real, mask=inside)
    tl.store(pairs + 1, imaginary, mask=inside)


@triton.jit
def _step(sr, si, seen, u, ar, ai, gr, gi, br, bi):
    """s + a s - g seen + b u, with seen = 2 Re q s."""
    dr, di = times(ar, ai, sr, si)
    return sr + (dr - gr * seen[:, None] + br * u[:, None]), si + (di - gi * seen[:, None] + bi * u[:, None])


@triton.jit
def _system(table, size, here, inside):
    """The five rows of the table, as real and imaginary parts: a, g, q, b and c of the recurrence."""
    ar, ai = _load(table + here, inside)
    gr, gi = _load(table + size + here, inside)
    qr, qi = _load(table + 2 * size + here, inside)
    br, bi = _load(table + 3 * size + here, inside)
    cr, ci = _load(table + 4 * size + here, inside)
    return ar, ai, gr, gi, qr, qi, br, bi, cr, ci


@triton.jit
def dplr_scan_forward(
    table, u, state, is_first, y, last, kept, channels, pairs, length, chunks,
    STATE: tl.constexpr, RESETS: tl.constexpr, KEEP: tl.constexpr, STEPS: tl.constexpr,
    H: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """All steps of one row and H channels."""
    row, n = tl.program_id(0).to(tl.int64), tl.arange(0, N)
    h = tl.program_id(1) * H + tl.arange(0, H)
    real, size = h < channels, 2 * channels * pairs
    here, inside = 2 * (h[:, None] * pairs + n[None, :]), real[:, None] & (n < pairs)[None, :]
    ar, ai, gr, gi, qr, qi, br, bi, cr, ci = _system(table, size, here, inside)
    sr, si = tl.zeros((H, N), tl.float32), tl.zeros((H, N), tl.float32)
    if STATE:
        sr, si = _load(state + row * size + here, inside)
    u += row * length * channels + h
    y += row * length * channels + h
    following = tl.load(u, mask=real, other=0.0)
    for chunk in range(chunks):
        if KEEP:
            _store(kept + (row * chunks + chunk) * size + here, inside, sr, si)
        for t in range(chunk * STEPS, min(chunk * STEPS + STEPS, length)):
            now = following
            following = tl.load(u + min(t + 1, length - 1) * channels, mask=real, other=0.0)
            if RESETS:
                first = tl.load(is_first + row * length + t) != 0
                sr, si = tl.where(first, 0.0, sr), tl.where(first, 0.0, si)
            sr, si = _step(sr, si, pair_sum(qr, qi, sr, si), now, ar, ai, gr, gi, br, bi)
            tl.store(y + t * channels, pair_sum(cr, ci, sr, si), mask=real)
    _store(last + row * size + here, inside, sr, si)


@triton.jit
def dplr_scan_backward(
    table, u, is_first, kept, of_y, of_last, scratch, of_table, of_u, of_state, channels, pairs, length, chunks,
    RESETS: tl.constexpr, STEPS: tl.constexpr, H: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """The adjoint, from the last step to the first; states come from those kept, STEPS at a time through `scratch`."""
    row, n = tl.program_id(0).to(tl.int64), tl.arange(0, N)
    h = tl.program_id(1) * H + tl.arange(0, H)
    real, size = h < channels, 2 * channels * pairs
    here, inside = 2 * (h[:, None] * pairs + n[None, :]), real[:, None] & (n < pairs)[None, :]
    ar, ai, gr, gi, qr, qi, br, bi, cr, ci = _system(table, size, here, inside)
    u += row * length * channels + h
    of_y += row * length * channels + h
    of_u += row * length * channels + h
    scratch += row * STEPS * size
    zero = tl.zeros((H, N), tl.float32)
    dar, dai, dgr, dgi, dqr, dqi, dbr, dbi, dcr, dci = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    lr, li = _load(of_last + row * size + here, inside)
    li = -li
    for back in range(chunks):
        chunk = chunks - 1 - back
        start = chunk * STEPS
        steps = min(STEPS, length - start)
        sr, si = _load(kept + (row * chunks + chunk) * size + here, inside)
        for j in range(steps):
            if RESETS:
                first = tl.load(is_first + row * length + start + j) != 0
                sr, si = tl.where(first, 0.0, sr), tl.where(first, 0.0, si)
            _store(scratch + j * size + here, inside, sr, si)
            now = tl.load(u + (start + j) * channels, mask=real, other=0.0)
            sr, si = _step(sr, si, pair_sum(qr, qi, sr, si), now, ar, ai, gr, gi, br, bi)
        tl.debug_barrier()
        for i in range(steps):
            j = steps - 1 - i
            t = start + j
            now = tl.load(u + t * channels, mask=real, other=0.0)
            dy = 2.0 * tl.load(of_y + t * channels, mask=real, other=0.0)[:, None]
            pr, pi = _load(scratch + j * size + here, inside)
            seen = pair_sum(qr, qi, pr, pi)
            sr, si = _step(pr, pi, seen, now, ar, ai, gr, gi, br, bi)
            # y = 2 Re c s
            dcr, dci = dcr + dy * sr, dci + dy * si
            lr, li = lr + dy * cr, li + dy * ci
            # s = p + a p - g seen + b u,  seen = 2 Re q p
            through = -pair_sum(lr, li, gr, gi)[:, None]
            dar, dai = dar + (lr * pr - li * pi), dai + (lr * pi + li * pr)
            dgr, dgi = dgr - lr * seen[:, None], dgi - li * seen[:, None]
            dqr, dqi = dqr + through * pr, dqi + through * pi
            dbr, dbi = dbr + lr * now[:, None], dbi + li * now[:, None]
            tl.store(of_u + t * channels, 0.5 * pair_sum(lr, li, br, bi), mask=real)
            er, ei = times(ar, ai, lr, li)
            lr, li = lr + (er + through * qr), li + (ei + through * qi)
            if RESETS:
                first = tl.load(is_first + row * length + t) != 0
                lr, li = tl.where(first, 0.0, lr), tl.where(first, 0.0, li)
        tl.debug_barrier()
    _store(of_state + row * size + here, inside, lr, -li)
    of_table += row * 5 * size + here
    _store(of_table, inside, dar, -dai)
    _store(of_table + size, inside, dgr, -dgi)
    _store(of_table + 2 * size, inside, dqr, -dqi)
    _store(of_table + 3 * size, inside, dbr, -dbi)
    _store(of_table + 4 * size, inside, dcr, -dci)


def forward(
    table: Tensor, u: Tensor, state: Tensor | None, is_first: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, last state, every 32nd state (B, chunks, H, N, 2)) of float32 tensors; the last is empty without `keep`."""
    table, u = table.contiguous(), u.contiguous()
    batch, length, _ = u.shape
    state = state if state is None else state.contiguous()
    y, last = torch.empty_like(u), u.new_empty(batch, *table.shape[1:])
    kept = u.new_empty(batch, kept_count(length) if keep else 0, *table.shape[1:])
    flags = {"STATE": state is not None, "RESETS": is_first is not None, "KEEP": keep}
    dplr_scan_forward[_grid(table, batch)](
        table, u, state if state is not None else u, _mask(is_first, u), y, last, kept,
        *_sizes(table, length), **flags, **_tiles(table.shape[2]),
    )  # fmt: skip
    return y, last, kept


def backward(
    table: Tensor, u: Tensor, is_first: Tensor | None, kept: Tensor, of_y: Tensor, of_last: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the table, of u and of the first state. Rows write their own share of the table's, summed after."""
    table, u, kept, of_y, of_last = (x.contiguous() for x in (table, u, kept, of_y, of_last))
    batch, length, _ = u.shape
    scratch = u.new_empty(batch, KEPT_EVERY, *table.shape[1:])
    of_table, of_u, of_state = u.new_empty(batch, *table.shape), torch.empty_like(u), torch.empty_like(of_last)
    dplr_scan_backward[_grid(table, batch)](
        table, u, _mask(is_first, u), kept, of_y, of_last, scratch, of_table, of_u, of_state,
        *_sizes(table, length), RESETS=is_first is not None, **_tiles(table.shape[2]),
    )  # fmt: skip
    return of_table.sum(0), of_u, of_state


def _mask(is_first: Tensor | None, u: Tensor) -> Tensor:
    """As bytes; without resets any tensor, which is not read."""
    return u if is_first is None else is_first.contiguous().view(torch.uint8)


def _sizes(table: Tensor, length: int) -> tuple[int, int, int, int]:
    return table.shape[1], table.shape[2], length, kept_count(length)


def _tiles(pairs: int) -> dict[str, Any]:
    """Constants of a launch: the states of H channels, padded to N pairs, fill one warp."""
    N = max(16, triton.next_power_of_2(pairs))
    return {"STEPS": KEPT_EVERY, "H": max(1, TILE // N), "N": N, "num_warps": 1, **OPTIONS}


def _grid(table: Tensor, batch: int) -> tuple[int, int]:
    return batch, triton.cdiv(table.shape[1], _tiles(table.shape[2])["H"])


def _build(kernel: Any, pairs: int, **flags: bool) -> Build:
    numbers = dict.fromkeys(("channels", "pairs", "length", "chunks"), "i32")
    constants = {name: value for name, value in (_tiles(pairs) | flags).items() if name.isupper()}
    pointers = [name for name in kernel.arg_names if name not in (*numbers, *constants)]
    types = {**dict.fromkeys(pointers, "*fp32"), **numbers, "is_first": "*u8"}
    label = "-".join([f"N{pairs}", *(name for name, value in flags.items() if value)])
    return Build(kernel, types, constants, 1, label)


BUILDS = [
    build
    for pairs in (16, 32, 64)
    for build in (
        _build(dplr_scan_forward, pairs, STATE=True, RESETS=True, KEEP=True),
        _build(dplr_scan_forward, pairs, STATE=True, RESETS=False, KEEP=False),
        _build(dplr_scan_backward, pairs, RESETS=True),
    )
    if hasattr(dplr_scan_forward, "arg_names")
]
