"""One step of the DPLR recurrence in O(N) per channel: what imagination runs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from wmkit_kernels.dispatch import use_triton, why_not_here, why_not_pairs
from wmkit_kernels.dplr.chunks import column, row
from wmkit_kernels.dplr.system import check, check_skip, discretise, discretise_input, inner
from wmkit_kernels.dplr_scan.cpu.openmp import why_no_team
from wmkit_kernels.dplr_scan.recurrence import recurrence, table_of


@dataclasses.dataclass(frozen=True)
class StepTables:
    """Everything `dplr_step` needs to know of the system, in the state's precision."""

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
    numbers: Tensor
    """(H (10 N + 2),) real: the first six, one behind the other, as one pass reads them."""


OnePass = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def prepare_step(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, D: Tensor, dtype: torch.dtype = torch.float32
) -> StepTables:
    """Tables for `dplr_step`, differentiable, built in double precision; arguments and errors of `prepare_scan`."""
    check(Lambda, P, dt, B, C)
    check_skip(D, dt)
    discrete, inputs = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    C = C.to(inputs.dtype)
    readout = torch.stack([row(discrete.row), row(C * discrete.ratio)], dim=1)
    through = inner(C, discrete.gain)[:, 0], inner(C, inputs)[:, 0] + D
    ratio = discrete.ratio.to(dtype.to_complex())
    real = [x.to(dtype) for x in (readout, column(discrete.gain), column(inputs), *through)]
    numbers = torch.cat([x.flatten() for x in (torch.view_as_real(ratio), *real)])
    real += [table_of(Lambda, P, B, C, dt).to(dtype), D.to(dtype), numbers]
    return StepTables(ratio, *real)


def dplr_step(tables: StepTables, u: Tensor, state: Tensor, *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """One step, s' = Abar s + Bbar u and y = 2 Re(C s') + D u: u (B, H), state (B, H, N, 2) -> (y (B, H), s').

    One pass over the state reduces it to alpha = 2 Re q s and 2 Re C a s; then
    s' = a s - g alpha + Bbar u and y = (2 Re C a s) - (2 Re C g) alpha + (2 Re C Bbar + D) u.
    In Triton one kernel does both, as a scan of one step; `backend` as in `dplr_scan`. On a CPU "auto" does both in one
    pass compiled by Numba, where `why_not_one_pass` is None; "torch" takes PyTorch's operations, five passes. In the
    precision of the tables, under autocast too. Raises `ValueError` for shapes other than these, and as `dplr_scan`.
    """
    if state.shape != (*u.shape, tables.ratio.shape[1], 2) or u.shape[1:] != tables.skip.shape:
        channels, pairs = tables.ratio.shape
        raise ValueError(
            f"expected u (B, H = {channels}) and state (B, H, N = {pairs}, 2), "
            f"got {tuple(u.shape)} and {tuple(state.shape)}"
        )
    u, state = u.to(tables.skip.dtype), state.to(tables.skip.dtype)
    if backend == "auto" and why_not_one_pass(tables, u, state) is None:
        one_pass = _compiled()[0]
        assert one_pass, "why_not_one_pass has asked for it"
        return one_pass(tables.numbers, u, state)
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
    """Why this step cannot be one pass over the state in code that Numba compiles, or None.

    Such code sees addresses: PyTorch records nothing of it, neither for a gradient nor for a graph.
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._len_torch_dispatch_stack():
        return "operations are traced"
    given = (tables.numbers, u, state)
    if forward_ad._current_level >= 0 or (torch.is_grad_enabled() and any(x.requires_grad for x in given)):
        return "a gradient is wanted"
    return _why_not_numbers(*given) or why_never_one_pass()


def why_never_one_pass() -> str | None:
    """Why no step can be one compiled pass in this process, or None."""
    return why_no_team() or _compiled()[1]


def _why_not_numbers(*tensors: Tensor) -> str | None:
    """Why these are not numbers in single precision in main memory, as compiled code reads them, or None."""
    for x in tensors:
        if x.device.type != "cpu":
            return f"tensors on {x.device.type}"
        if x.dtype is not torch.float32:
            return f"it is written for single precision, got {x.dtype}"
        try:
            if x.is_neg() or (x.data_ptr() == 0 and x.numel()):
                return "numbers that are not in memory as they are"
        except RuntimeError:
            return "numbers without an address (vmap)"
    return None


@functools.cache
def _compiled() -> tuple[OnePass | None, str | None]:
    """The compiled pass, or None and why there is none: no Numba, or no folder to keep its code in."""
    try:
        from wmkit_kernels.dplr_scan.cpu.numba_impl import one_pass
    except (ImportError, RuntimeError) as error:
        return None, f"Numba cannot compile here: {error}"
    return one_pass, None
