"""One step of the DPLR recurrence in O(N) per channel: what imagination runs."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.dispatch import use_triton, why_not_here, why_not_pairs
from wmkit_kernels.dplr import check, discretise, discretise_input, inner
from wmkit_kernels.dplr_chunks import column, row
from wmkit_kernels.dplr_scan.recurrence import recurrence, table_of


@dataclasses.dataclass(frozen=True)
class StepTables:
    """Everything `dplr_step` needs to know of the system; real or complex of the state's precision."""

    ratio: Tensor
    """(H, N) complex: diagonal part a of Abar = diag(a) - g q^T."""
    readout: Tensor
    """(H, 2, 2N) real: rows q and C a, for one reduction over the state."""
    gain: Tensor
    """(H, 2N) real: g."""
    inputs: Tensor
    """(H, 2N) real: Bbar."""
    gain_through: Tensor
    """(H,) real: 2 Re C g."""
    input_through: Tensor
    """(H,) real: 2 Re C Bbar."""
    table: Tensor
    """(5, H, N, 2) real: the coefficients as Triton takes them."""


def prepare_step(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, dtype: torch.dtype = torch.float32
) -> StepTables:
    """Tables for `dplr_step`, differentiable, built in double precision; arguments and errors of `dplr_kernel`."""
    check(Lambda, P, dt, B, C)
    discrete, inputs = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    C = C.to(inputs.dtype)
    readout = torch.stack([row(discrete.row), row(C * discrete.ratio)], dim=1)
    through = inner(C, discrete.gain)[:, 0], inner(C, inputs)[:, 0]
    real = (readout, column(discrete.gain), column(inputs), *through, table_of(Lambda, P, B, C, dt))
    return StepTables(discrete.ratio.to(dtype.to_complex()), *(x.to(dtype) for x in real))


def dplr_step(tables: StepTables, u: Tensor, state: Tensor, *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """One step, s' = Abar s + Bbar u and y = 2 Re(C s'): u (B, H), state (B, H, N, 2) -> (y (B, H), s').

    One pass over the state reduces it to alpha = 2 Re q s and 2 Re C a s; then
    s' = a s - g alpha + Bbar u and y = (2 Re C a s) - (2 Re C g) alpha + (2 Re C Bbar) u.
    In Triton one kernel does both, as a scan of one step; `backend` as in `dplr_scan`.
    """
    if use_triton(backend, why_not_here(tables.table, u, state) or why_not_pairs(state.shape[2])):
        y, state = recurrence(tables.table, u.unsqueeze(1), state, None, triton=True)
        return y[:, 0], state
    with torch.autocast(state.device.type, enabled=False):
        seen = torch.bmm(tables.readout, state.flatten(-2).permute(1, 2, 0))
    alpha, kept = seen.permute(1, 2, 0).contiguous().unbind(0)
    turned = column(torch.view_as_complex(state.contiguous()) * tables.ratio)
    turned.addcmul_(tables.gain, alpha.unsqueeze(-1), value=-1).addcmul_(tables.inputs, u.unsqueeze(-1))
    y = kept - tables.gain_through * alpha + tables.input_through * u
    return y, turned.view_as(state)
