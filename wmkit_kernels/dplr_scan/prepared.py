"""The DPLR recurrence over time where the system stays: its maps made once, then applied to many sequences."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.common.dispatch import use_triton
from wmkit_kernels.common.pairs import channels_first, check_sequence, inner, rows_to_state, state_to_rows
from wmkit_kernels.dplr.chunks import CHUNK, Chunk, chunk_of
from wmkit_kernels.dplr.system import check, discretise, discretise_input
from wmkit_kernels.dplr_scan.op import why_not_triton
from wmkit_kernels.dplr_scan.recurrence import recurrence, table_of


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
    chunk = chunk_of(discrete, Bbar, C, CHUNK, dtype)
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
