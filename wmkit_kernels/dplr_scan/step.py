"""One step of the DPLR recurrence in O(N) per channel: what imagination runs."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.dplr import check, discretise, discretise_input, inner
from wmkit_kernels.dplr_chunks import column, row


@dataclasses.dataclass(frozen=True)
class StepTables:
    """Everything `dplr_step` needs to know of the system; real or complex of the state's precision."""

    ratio: Tensor
    """(H, N) complex: diagonal part a of Abar = diag(a) - g q^T."""
    readout: Tensor
    """(H, 2N, 2) real: columns q and C a, for one reduction over the state."""
    gain: Tensor
    """(H, 2N) real: g."""
    inputs: Tensor
    """(H, 2N) real: Bbar."""
    gain_through: Tensor
    """(H,) real: 2 Re C g."""
    input_through: Tensor
    """(H,) real: 2 Re C Bbar."""


def prepare_step(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, dtype: torch.dtype = torch.float32
) -> StepTables:
    """Tables for `dplr_step`, differentiable, built in double precision; arguments and errors of `dplr_kernel`."""
    check(Lambda, P, dt, B, C)
    discrete, inputs = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    C = C.to(inputs.dtype)
    readout = torch.stack([row(discrete.row), row(C * discrete.ratio)], dim=-1)
    real = (readout, column(discrete.gain), column(inputs), inner(C, discrete.gain)[:, 0], inner(C, inputs)[:, 0])
    return StepTables(discrete.ratio.to(dtype.to_complex()), *(x.to(dtype) for x in real))


def dplr_step(tables: StepTables, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One step, s' = Abar s + Bbar u and y = 2 Re(C s'): u (B, H), state (B, H, N, 2) -> (y (B, H), s').

    One pass over the state reduces it to alpha = 2 Re q s and 2 Re C a s; then
    s' = a s - g alpha + Bbar u and y = (2 Re C a s) - (2 Re C g) alpha + (2 Re C Bbar) u.
    """
    alpha, kept = torch.einsum("bhn,hnk->kbh", state.flatten(-2), tables.readout).unbind(0)
    turned = torch.view_as_real(torch.view_as_complex(state.contiguous()) * tables.ratio).flatten(-2)
    turned = torch.addcmul(turned, tables.gain, alpha.unsqueeze(-1), value=-1)
    turned = torch.addcmul(turned, tables.inputs, u.unsqueeze(-1))
    y = kept - tables.gain_through * alpha + tables.input_through * u
    return y, turned.view_as(state)
