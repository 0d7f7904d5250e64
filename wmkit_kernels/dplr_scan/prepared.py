"""The DPLR recurrence over time where the system stays: its matrices made once, then applied to many sequences."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.dispatch import use_triton
from wmkit_kernels.dplr.chunks import CHUNK, Chunk, by_channel, chunk_of, first_state, pairs_of
from wmkit_kernels.dplr.spans import Span, spans_of
from wmkit_kernels.dplr.system import check, check_sequence, check_skip, discretise, discretise_input, inner
from wmkit_kernels.dplr_scan.op import as_inputs, check_reset, why_not_triton
from wmkit_kernels.dplr_scan.recurrence import chunk_after_chunk, recurrence, table_of


@dataclasses.dataclass(frozen=True)
class ScanTables:
    """Everything `dplr_prepared_scan` needs to know of the system, for sequences of any length."""

    spans: tuple[Span, ...]
    """For sequences without resets; the longest first. None where they are not worth their making or their memory."""
    chunk: Chunk
    """For resets, and for the few steps that follow the last whole span."""
    through: Tensor
    """(H,) real: 2 Re C Bbar + D."""
    table: Tensor
    """(5, H, N, 2) real: the coefficients as Triton takes them."""
    skip: Tensor
    """(H,) real: D."""


def prepare_scan(
    Lambda: Tensor,
    P: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    D: Tensor,
    dtype: torch.dtype = torch.float32,
    spans: bool = True,
) -> ScanTables:
    """Tables for `dplr_prepared_scan`, built in double precision and cast to `dtype`; errors of `dplr_kernel`.

    The system as in `dplr_kernel`, and `D` (H,) real: what of an input reaches the output at once. `spans`: also
    those for 64 and 32 steps at once, eight times the memory and most of the work.
    """
    check(Lambda, P, dt, B, C)
    check_skip(D, dt)
    discrete, inputs = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    through = inner(C.to(inputs.dtype), inputs)[:, 0] + D
    longer = spans_of(discrete, inputs, C.to(inputs.dtype), D, dtype) if spans else ()
    table = table_of(Lambda, P, B, C, dt).to(dtype)
    return ScanTables(longer, chunk_of(discrete, inputs, C, CHUNK, dtype), through.to(dtype), table, D.to(dtype))


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
    check_sequence(pairs, channels, u, state)
    check_reset(u, is_first)
    with torch.autocast(u.device.type, enabled=False):
        u = u.to(tables.through.dtype)
        if use_triton(backend, why_not_triton(u, state, is_first, pairs)):
            y, last = recurrence(tables.table, u, as_inputs(state, u), is_first, triton=True)
            return torch.addcmul(y, tables.skip, u), last
        last, rest, outputs = first_state(u, pairs, state), by_channel(u), list[Tensor]()
        for span in tables.spans if is_first is None else ():
            whole = rest.shape[2] // span.steps * span.steps
            if whole:
                y, last = span.scan(rest[..., :whole], last)
                rest, outputs = rest[..., whole:], [*outputs, y]
        if rest.shape[2]:
            y, last = chunk_after_chunk(tables.chunk, rest, last, is_first)
            outputs.append(torch.addcmul(y, tables.through[:, None, None], rest))
        y = torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]
        return y.permute(1, 2, 0), pairs_of(last)
