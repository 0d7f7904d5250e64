"""The diagonal recurrence of many small systems, read out on the spot: no state but the last is ever kept.

    s_t = a s_{t-1} + b u_t,    y_t = 2 Re(c s_t) + d u_t,    s_{t-1} := 0 where is_first_t

for every channel h with its own a, b, c (N,). All states would be 2 N times the inputs (64 times for the usual N = 32).
Over a span of R steps, with the state a row of (Re, Im) pairs,

    y_t = 2 Re(c a^{t+1} s_0) + sum_{j<=t} 2 Re(c a^{t-j} b) u_j + d u_t,        s_R = a^R s_0 + sum_j a^{R-1-j} b u_j

are three products with real matrices for all spans together; only s <- a^R s + ... goes from span to span.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.common.segments import by_segment
from wmkit_kernels.common.series import (
    channels_first,
    check_sequence,
    column,
    inner,
    powers,
    row,
    rows_to_state,
    state_to_rows,
    toeplitz,
)

SPAN = 64
"""Steps per span where the tables are kept; their size grows with the square, the loop over spans shrinks."""
TRAINED_SPAN = 16
"""The same where tables are made for one call: for 64 steps of 16 rows longer ones take longer than the scan."""
RESET_SPAN = 8
"""The same where the sequence has resets, which cost a mask of (steps, steps) per span and row."""


@dataclasses.dataclass(frozen=True)
class ReadoutTables:
    """The maps of R steps, to be multiplied from the left by rows of inputs and states."""

    response: Tensor
    """(H, R, R): from inputs to outputs, d among them."""
    readout: Tensor
    """(H, 2N, R): from the first state to outputs."""
    input_map: Tensor
    """(H, R, 2N): from inputs to the last state."""
    transition: Tensor
    """(H, R + 1, N) complex: a^t, from the first state to the state before step t."""

    @property
    def steps(self) -> int:
        """R."""
        return self.response.shape[1]

    def scan(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Whole spans, then what is left: u (H, B, T), state (H, B, 2N) -> (y (H, B, T), last state)."""
        whole, outputs = u.shape[2] // self.steps * self.steps, []
        for span, part in ((self, u[..., :whole]), (self._shortened(u.shape[2] - whole), u[..., whole:])):
            if part.shape[2]:
                rows = part.reshape(u.shape[0], -1, span.steps)  # (H, B S, R)
                entering = (rows @ span.input_map).view(*u.shape[:2], -1, state.shape[2])  # (H, B, S, 2N)
                states = [state]
                for each in entering.unbind(2):
                    states.append(each + span._carried(states[-1]))
                before, state = torch.stack(states[:-1], dim=2).flatten(1, 2), states[-1]  # (H, B S, 2N), (H, B, 2N)
                outputs.append(torch.baddbmm(rows @ span.response, before, span.readout).view(part.shape))
        return torch.cat(outputs, dim=2), state

    def scan_with_resets(self, u: Tensor, state: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """The same, span after span, where inputs reach the steps of their own segment only: is_first (B, T)."""
        outputs = []
        pieces = torch.split(u, RESET_SPAN, dim=2)  # one gradient for all; that of a slice is as long as u, for each
        response = self._shortened(min(RESET_SPAN, self.steps)).response.mT.unsqueeze(1)
        for piece, (segment, from_inputs) in zip(pieces, by_segment(response, u, is_first), strict=True):
            span = self._shortened(piece.shape[2])
            unbroken, lasting = segment == 0, segment == segment[:, -1:]  # (B, R)
            outputs.append(from_inputs[:, :, 0] + torch.where(unbroken, state @ span.readout, 0))  # (H, B, R)
            state = torch.where(unbroken[:, -1:], span._carried(state), 0)
            state = torch.baddbmm(state, torch.where(lasting, piece, 0), span.input_map)
        return torch.cat(outputs, dim=2), state

    def _shortened(self, steps: int) -> ReadoutTables:
        """The same for fewer steps."""
        last = slice(self.steps - steps, None)
        return ReadoutTables(
            self.response[:, :steps, :steps],
            self.readout[..., :steps],
            self.input_map[:, last],
            self.transition[:, : steps + 1],
        )

    def _carried(self, state: Tensor) -> Tensor:
        """a^R s: (H, B, 2N) -> the same."""
        return column(torch.view_as_complex(state.reshape(*state.shape[:-1], -1, 2)) * self.transition[:, -1:])


def prepare_readout(
    a: Tensor, b: Tensor, c: Tensor, d: Tensor, steps: int = SPAN, dtype: torch.dtype = torch.float32
) -> ReadoutTables:
    """Tables for `diagonal_readout`, differentiable: a, b, c (H, N) complex, d (H,) real, made in double and cast."""
    a, b, c = (x.to(torch.complex128) for x in (a, b, c))
    transition = powers(a, steps + 1)  # (H, R + 1, N)
    readout = row(c.unsqueeze(1) * transition[:, 1:]).mT  # (H, 2N, R)
    kernel = inner((c * b).unsqueeze(1), transition[:, :-1])[..., 0]  # (H, R)
    response = toeplitz(kernel).mT + torch.diag_embed(d.to(kernel.dtype).unsqueeze(1).expand_as(kernel))
    input_map = column(transition[:, :-1].flip(1) * b.unsqueeze(1))  # (H, R, 2N)
    response, readout, input_map = (x.to(dtype).contiguous() for x in (response, readout, input_map))
    return ReadoutTables(response, readout, input_map, transition.to(torch.promote_types(dtype, torch.complex64)))


def diagonal_readout(
    tables: ReadoutTables, u: Tensor, state: Tensor | None = None, is_first: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The recurrence above: u (B, T, H), state (B, H, N, 2) or None for zeros -> (y (B, T, H), last state).

    `is_first` (B, T) bool or None for no reset; its values are never read on the host. Works in the precision of the
    tables, under autocast too; differentiable in tables, `u` and `state`. Raises `ValueError` for other
    shapes or dtypes.
    """
    channels, _, pairs = tables.transition.shape
    check_sequence(pairs, channels, u, state, is_first)
    with torch.autocast(u.device.type, enabled=False):
        u = u.to(tables.response.dtype)
        inputs, start = channels_first(u), state_to_rows(u, pairs, state)  # (H, B, T), (H, B, 2N)
        if is_first is None:
            y, last = tables.scan(inputs, start)
        else:
            y, last = tables.scan_with_resets(inputs, start, is_first)
        return y.permute(1, 2, 0), rows_to_state(last)


@dataclasses.dataclass(frozen=True)
class ReadoutStep:
    """What one step needs to know of the systems."""

    transition: Tensor
    """(H, N) complex: a."""
    readout: Tensor
    """(H, 2N, 1) real: c a over (Re, Im) pairs, one column, which `einsum` multiplies faster than a vector."""
    input_map: Tensor
    """(H, 2N) real: b."""
    feedthrough: Tensor
    """(H,) real: 2 Re(c b) + d."""


def prepare_readout_step(a: Tensor, b: Tensor, c: Tensor, d: Tensor, dtype: torch.dtype = torch.float32) -> ReadoutStep:
    """Tables for `diagonal_readout_step`; arguments of `prepare_readout`."""
    a, b, c = (x.to(torch.complex128) for x in (a, b, c))
    real = (row(c * a).unsqueeze(-1), column(b), inner(c, b)[:, 0] + d)
    return ReadoutStep(a.to(torch.promote_types(dtype, torch.complex64)), *(x.to(dtype) for x in real))


def diagonal_readout_step(tables: ReadoutStep, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One step, y = 2 Re(c a s) + (2 Re(c b) + d) u and s' = a s + b u: u (B, H), state (B, H, N, 2)."""
    y = torch.einsum("bhn,hnk->kbh", state.flatten(-2), tables.readout)[0]  # (B, H)
    after = column(torch.view_as_complex(state.contiguous()) * tables.transition)  # (B, H, 2N)
    after.addcmul_(tables.input_map, u.unsqueeze(-1))
    return torch.addcmul(y, tables.feedthrough, u), after.view_as(state)
