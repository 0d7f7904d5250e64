"""One step of the DPLR recurrence in O(N) per channel: what imagination runs."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util

import torch
from torch import Tensor

from wmkit_kernels.dispatch import use_triton, why_not_here, why_not_pairs
from wmkit_kernels.dplr import check, discretise, discretise_input, inner
from wmkit_kernels.dplr_chunks import column, row
from wmkit_kernels.dplr_scan.recurrence import recurrence, table_of
from wmkit_kernels.team import why_no_team

NUMBA = importlib.util.find_spec("numba") is not None


@dataclasses.dataclass(frozen=True)
class StepTables:
    """Everything `dplr_step` needs to know of the system; real or complex of the state's precision, contiguous."""

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
    """(H,) real: 2 Re C Bbar + D."""
    table: Tensor
    """(5, H, N, 2) real: the coefficients as Triton takes them."""
    skip: Tensor
    """(H,) real: D."""

    @property
    def for_one_pass(self) -> tuple[Tensor, ...]:
        """What a step in one pass reads."""
        return self.ratio, self.readout, self.gain, self.inputs, self.gain_through, self.input_through

    @functools.cached_property
    def addresses(self) -> tuple[int, ...]:
        """Where these are in memory; asked for once, since a step takes no longer than fifty such questions."""
        return tuple(x.data_ptr() for x in self.for_one_pass)

    @functools.cached_property
    def why_not_one_pass(self) -> str | None:
        """Why a step with these tables cannot be one pass over the state in code that Numba compiles, or None."""
        found = [why for x in self.for_one_pass if (why := _why_not_memory(x))]
        return found[0] if found else why_no_team() or (None if NUMBA else "numba is not installed")


def prepare_step(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, D: Tensor, dtype: torch.dtype = torch.float32
) -> StepTables:
    """Tables for `dplr_step`, differentiable, built in double precision; arguments and errors of `prepare_scan`."""
    check(Lambda, P, dt, B, C)
    discrete, inputs = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    C = C.to(inputs.dtype)
    readout = torch.stack([row(discrete.row), row(C * discrete.ratio)], dim=1)
    through = inner(C, discrete.gain)[:, 0], inner(C, inputs)[:, 0] + D
    real = (readout, column(discrete.gain), column(inputs), *through, table_of(Lambda, P, B, C, dt), D)
    return StepTables(discrete.ratio.to(dtype.to_complex()).contiguous(), *(x.to(dtype).contiguous() for x in real))


def dplr_step(tables: StepTables, u: Tensor, state: Tensor, *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """One step, s' = Abar s + Bbar u and y = 2 Re(C s') + D u: u (B, H), state (B, H, N, 2) -> (y (B, H), s').

    One pass over the state reduces it to alpha = 2 Re q s and 2 Re C a s; then
    s' = a s - g alpha + Bbar u and y = (2 Re C a s) - (2 Re C g) alpha + (2 Re C Bbar + D) u.
    In Triton one kernel does both, as a scan of one step; `backend` as in `dplr_scan`. On a CPU "auto" does both in one
    pass compiled by Numba, where `why_not_one_pass` is None; "torch" takes PyTorch's operations, five passes. In the
    precision of the tables, under autocast too.
    """
    u = u.to(tables.skip.dtype)
    if backend == "auto" and why_not_one_pass(tables, u, state) is None:
        from wmkit_kernels.dplr_scan.numba_impl import one_pass

        return one_pass(tables, u, state)
    if use_triton(backend, why_not_here(tables.table, u, state) or why_not_pairs(state.shape[2])):
        y, state = recurrence(tables.table, u.unsqueeze(1), state, None, triton=True)
        return torch.addcmul(y[:, 0], tables.skip, u), state
    with torch.autocast(state.device.type, enabled=False):
        seen = torch.bmm(tables.readout, state.flatten(-2).permute(1, 2, 0))
    alpha, kept = seen.permute(1, 2, 0).contiguous().unbind(0)
    turned = column(torch.view_as_complex(state.contiguous()) * tables.ratio)
    turned.addcmul_(tables.gain, alpha.unsqueeze(-1), value=-1).addcmul_(tables.inputs, u.unsqueeze(-1))
    y = kept - tables.gain_through * alpha + tables.input_through * u
    return y, turned.view_as(state)


def why_not_one_pass(tables: StepTables, u: Tensor, state: Tensor) -> str | None:
    """Why this step cannot be one pass over the state in code that Numba compiles, or None."""
    return tables.why_not_one_pass or _why_not_memory(u) or _why_not_memory(state)


def _why_not_memory(x: Tensor) -> str | None:
    """Why compiled code cannot read this tensor as single precision numbers in main memory, or None."""
    if x.requires_grad and torch.is_grad_enabled():
        return "a gradient is wanted"
    if x.device.type != "cpu":
        return f"tensors on {x.device.type}"
    if x.dtype not in (torch.float32, torch.complex64):
        return f"it is written for single precision, got {x.dtype}"
    try:
        x.data_ptr()
    except RuntimeError:
        return "numbers without an address: tracing, or vmap"
    return None
