"""The DPLR recurrence over time, with resets, in chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit_kernels.dplr import check, check_sequence, discretise, discretise_input, inner
from wmkit_kernels.dplr_chunks import CHUNK, Chunk, by_channel, chunk_of, first_state, pairs_of


def dplr_scan(
    Lambda: Tensor,
    P: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    is_first: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """s_t = Abar s_{t-1} + Bbar u_t, y_t = 2 Re(C s_t), with s_{t-1} := 0 where is_first_t; returns (y, s_{T-1}).

    `u` (B, T, H), `state` = s_{-1} (B, H, N, 2) or None for zeros, `is_first` (B, T) bool or None for no reset ->
    y (B, T, H), last state (B, H, N, 2), in the precision of `u`, at least float32, under autocast too. The system as
    in `dplr_kernel`: `Lambda`, `P`, `B` (N,), `C` (H, N) complex, `dt` (H,) real. Differentiable in all but the mask,
    whose values are never read on the host. Raises `ValueError` for shapes or dtypes other than these.
    """
    check(Lambda, P, dt, B, C)
    check_sequence(Lambda.shape[0], dt.shape[0], u, state)
    check_reset(u, is_first)
    with torch.autocast(u.device.type, enabled=False):
        return _in_chunks(Lambda, P, B, C, dt, u.to(torch.promote_types(u.dtype, torch.float32)), state, is_first)


def _in_chunks(
    Lambda: Tensor,
    P: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    u: Tensor,
    state: Tensor | None,
    is_first: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`dplr_scan` of checked arguments, in the precision of `u`."""
    discrete, inputs = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    chunk = chunk_of(discrete, inputs, C, min(u.shape[1], CHUNK), u.dtype)
    seen, last = in_chunks(chunk, by_channel(u), first_state(u, Lambda.shape[0], state), is_first)
    y = seen.permute(1, 2, 0) + inner(C.to(inputs.dtype), inputs)[:, 0].to(u.dtype) * u
    return y, pairs_of(last)


def in_chunks(chunk: Chunk, u: Tensor, state: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
    """Chunk after chunk: u (H, B, T), state (H, B, 2N) -> (outputs (H, B, T) but for C Bbar u, last state)."""
    outputs = []
    for start in range(0, u.shape[2], CHUNK):
        steps = slice(start, start + CHUNK)
        seen, state = _through(chunk, u[..., steps], state, None if is_first is None else is_first[:, steps])
        outputs.append(seen)
    return torch.cat(outputs, dim=2), state


def _through(chunk: Chunk, u: Tensor, state: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
    """One chunk: u (H, B, R), state (H, B, 2N) -> (outputs (H, B, R) but for C Bbar u, last state)."""
    chunk = chunk.shortened(u.shape[2])
    if is_first is None:
        alpha, seen = chunk.rows(u, state).chunk(2, dim=-1)
        return seen, chunk.leave(state, u, alpha)
    segment = is_first.cumsum(1)
    alpha, seen = chunk.rows_within(segment, u, state).chunk(2, dim=-1)
    lasting = segment == segment[:, -1:]
    remaining = torch.where(segment[:, -1:] == 0, state, 0)
    return seen, chunk.leave(remaining, torch.where(lasting, u, 0), torch.where(lasting, alpha, 0))


def check_reset(u: Tensor, is_first: Tensor | None) -> None:
    """Raise `ValueError` unless is_first is None or (B, T) bool for u (B, T, H)."""
    if is_first is not None and (is_first.shape != u.shape[:2] or is_first.dtype != torch.bool):
        raise ValueError(
            f"expected is_first (B, T) = {tuple(u.shape[:2])} bool, got {tuple(is_first.shape)} of {is_first.dtype}"
        )
