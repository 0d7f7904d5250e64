"""The DPLR recurrence over time, with resets; and with maps that are made once where the system stays."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.common.dispatch import use_triton, why_not_here, why_not_pairs
from wmkit_kernels.common.series import channels_first, check_sequence, inner, rows_to_state, state_to_rows
from wmkit_kernels.dplr.chunks import PREPARED_CHUNK, Chunk, chunk_of
from wmkit_kernels.dplr.system import check, discretise, discretise_input
from wmkit_kernels.dplr_scan.recurrence import in_chunks, recurrence, table_of


def dplr_scan(
    Lambda: Tensor,
    P: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    is_first: Tensor | None = None,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """s_t = Abar s_{t-1} + Bbar u_t, y_t = 2 Re(C s_t), with s_{t-1} := 0 where is_first_t; returns (y, s_{T-1}).

    `u` (B, T, H), `state` = s_{-1} (B, H, N, 2) or None for zeros, `is_first` (B, T) bool or None for no reset ->
    y (B, T, H), last state (B, H, N, 2), in the precision of `u`, at least float32, under autocast too. The system as
    in `dplr_kernel`: `Lambda`, `P`, `B` (N,), `C` (H, N) complex, `dt` (H,) real. Differentiable in all but the mask,
    whose values are never read on the host. `backend`: "auto" (Triton on a GPU where it can run), "torch", "triton".
    Raises `ValueError` for shapes or dtypes other than these, and where Triton is asked for and cannot run.
    """
    check(Lambda, P, dt, B, C)
    check_sequence(Lambda.shape[0], dt.shape[0], u, state, is_first)
    triton = use_triton(backend, why_not_triton(u, state, is_first, Lambda.shape[0]))
    with torch.autocast(u.device.type, enabled=False):
        u = u.to(torch.promote_types(u.dtype, torch.float32))
        if not triton and not torch.compiler.is_compiling():
            discrete, Bbar = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
            return in_chunks(discrete, Bbar, C, u, state, is_first)
        table = table_of(Lambda, P, B, C, dt)
        return recurrence(table.float() if triton else table, u, state, is_first, triton)


def why_not_triton(u: Tensor, state: Tensor | None, is_first: Tensor | None, pairs: int) -> str | None:
    """Why Triton cannot run a recurrence of `pairs` conjugate pairs on these tensors, or None."""
    return why_not_here(u, state, is_first) or why_not_pairs(pairs)


@dataclasses.dataclass(frozen=True)
class ScanTables:
    """Everything `dplr_prepared_scan` needs to know of the system, for sequences of any length."""

    chunk: Chunk
    """The maps of a few steps at once, for PyTorch."""
    feedthrough: Tensor
    """(H,) real: 2 Re C Bbar + D."""
    table: Tensor
    """(5, H, N, 2) real: the coefficients as Triton takes them."""
    D: Tensor
    """(H,) real."""


def prepare_scan(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, D: Tensor, dtype: torch.dtype = torch.float32
) -> ScanTables:
    """Tables for `dplr_prepared_scan`, built in double precision and cast to `dtype`; errors of `dplr_kernel`.

    The system as in `dplr_kernel`, and `D` (H,) real: what of an input reaches the output at once.
    """
    check(Lambda, P, dt, B, C, D)
    discrete, Bbar = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    chunk = chunk_of(discrete, Bbar, C, PREPARED_CHUNK, dtype)
    feedthrough = inner(C.to(Bbar.dtype), Bbar)[:, 0] + D
    return ScanTables(chunk, feedthrough.to(dtype), table_of(Lambda, P, B, C, dt).to(dtype), D.to(dtype))


def dplr_prepared_scan(
    tables: ScanTables,
    u: Tensor,
    state: Tensor | None = None,
    is_first: Tensor | None = None,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """s_t = Abar s_{t-1} + Bbar u_t, y_t = 2 Re(C s_t) + D u_t, with s_{t-1} := 0 where is_first_t; (y, s_{T-1}).

    `u` (B, T, H), `state` = s_{-1} (B, H, N, 2) or None for zeros, `is_first` (B, T) bool or None for no reset ->
    y (B, T, H), last state (B, H, N, 2), in the precision of the tables, under autocast too. The same map as
    `dplr_scan`, without its work in double precision. The mask's values are never read on the host. `backend` as in
    `dplr_scan`. Raises `ValueError` for shapes or dtypes other than these, and as `dplr_scan`.
    """
    _, channels, pairs, _ = tables.table.shape
    check_sequence(pairs, channels, u, state, is_first)
    with torch.autocast(u.device.type, enabled=False):
        u = u.to(tables.feedthrough.dtype)
        if use_triton(backend, why_not_triton(u, state, is_first, pairs)):
            y, last = recurrence(tables.table, u, state, is_first, triton=True)
            return torch.addcmul(y, tables.D, u), last
        inputs = channels_first(u)  # (H, B, T)
        y, last = tables.chunk.scan(inputs, state_to_rows(u, pairs, state), is_first)
        y = torch.addcmul(y, tables.feedthrough[:, None, None], inputs)
        return y.permute(1, 2, 0), rows_to_state(last)
