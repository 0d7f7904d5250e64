"""One step of the DPLR recurrence in O(N) per channel: what imagination runs."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.common.dispatch import use_triton, why_not_here, why_not_pairs
from wmkit_kernels.common.series import column, inner, row
from wmkit_kernels.dplr.system import check, discretise, discretise_input
from wmkit_kernels.dplr_scan import cpu
from wmkit_kernels.dplr_scan.recurrence import recurrence, table_of


@dataclasses.dataclass(frozen=True)
class StepTables:
    """Everything `dplr_step` needs to know of the system, in the state's precision; Abar = diag(a) - g q."""

    a: Tensor
    """(H, N) complex."""
    readout: Tensor
    """(H, 2, 2N) real: rows q and C a, for one reduction over the state."""
    g: Tensor
    """(H, 2N) real."""
    input_map: Tensor
    """(H, 2N) real: Bbar."""
    g_feedthrough: Tensor
    """(H,) real: 2 Re C g, from alpha = q s to the output."""
    feedthrough: Tensor
    """(H,) real: 2 Re C Bbar + D, from the input to the output."""
    packed: Tensor
    """(H (10 N + 2),) real: the six above, one behind the other, as compiled code reads them in one pass."""
    table: Tensor
    """(5, H, N, 2) real: the coefficients as Triton takes them."""
    D: Tensor
    """(H,) real."""


def prepare_step(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, D: Tensor, dtype: torch.dtype = torch.float32
) -> StepTables:
    """Tables for `dplr_step`, differentiable, built in double precision; arguments and errors of `prepare_scan`."""
    check(Lambda, P, dt, B, C, D)
    discrete, Bbar = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    C = C.to(Bbar.dtype)
    readout = torch.stack([row(discrete.q), row(C * discrete.a)], dim=1)
    g_feedthrough, feedthrough = inner(C, discrete.g)[:, 0], inner(C, Bbar)[:, 0] + D
    a = discrete.a.to(dtype.to_complex())
    real = [x.to(dtype) for x in (readout, column(discrete.g), column(Bbar), g_feedthrough, feedthrough)]
    packed = torch.cat([x.flatten() for x in (torch.view_as_real(a), *real)])
    real += [packed, table_of(Lambda, P, B, C, dt).to(dtype), D.to(dtype)]
    return StepTables(a, *real)


def dplr_step(tables: StepTables, u: Tensor, state: Tensor, *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """One step, s' = Abar s + Bbar u and y = 2 Re(C s') + D u: u (B, H), state (B, H, N, 2) -> (y (B, H), s').

    One pass over the state reduces it to alpha = 2 Re q s and 2 Re C a s; then
    s' = a s - g alpha + Bbar u and y = (2 Re C a s) - (2 Re C g) alpha + (2 Re C Bbar + D) u.
    In Triton one kernel does both, as a scan of one step; `backend` as in `dplr_scan`. On a CPU "auto" does both in one
    pass compiled by Numba, where `why_not_compiled_step` is None; "torch" takes PyTorch's operations, five passes. In
    the precision of the tables, under autocast too. Raises `ValueError` for other shapes, and as `dplr_scan`.
    """
    if state.shape != (*u.shape, tables.a.shape[1], 2) or u.shape[1:] != tables.D.shape:
        channels, pairs = tables.a.shape
        raise ValueError(
            f"expected u (B, H = {channels}) and state (B, H, N = {pairs}, 2), "
            f"got {tuple(u.shape)} and {tuple(state.shape)}"
        )
    u, state = u.to(tables.D.dtype), state.to(tables.D.dtype)
    if backend == "auto" and why_not_compiled_step(tables, u, state) is None:
        return cpu.step(tables.packed, u, state)
    if use_triton(backend, why_not_here(tables.table, u, state) or why_not_pairs(state.shape[2])):
        y, state = recurrence(tables.table, u.unsqueeze(1), state, None, triton=True)
        return torch.addcmul(y[:, 0], tables.D, u), state
    with torch.autocast(state.device.type, enabled=False):
        rows = torch.bmm(tables.readout, state.flatten(-2).permute(1, 2, 0))  # (H, 2, B)
    alpha, y = rows.permute(1, 2, 0).contiguous().unbind(0)  # (B, H)
    after = column(torch.view_as_complex(state.contiguous()) * tables.a)  # (B, H, 2N)
    after.addcmul_(tables.g, alpha.unsqueeze(-1), value=-1).addcmul_(tables.input_map, u.unsqueeze(-1))
    return y - tables.g_feedthrough * alpha + tables.feedthrough * u, after.view_as(state)


def why_not_compiled_step(tables: StepTables, u: Tensor, state: Tensor) -> str | None:
    """Why `dplr_step` is not one pass in code that Numba compiles here, or None."""
    return cpu.why_not(tables.packed, u, state)
