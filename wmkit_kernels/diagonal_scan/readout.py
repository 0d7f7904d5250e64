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

from wmkit_kernels.common.geometric_sums import powers
from wmkit_kernels.common.power_series import toeplitz
from wmkit_kernels.dplr.chunks import by_channel, column, first_state, pairs_of, row
from wmkit_kernels.dplr.system import check_sequence, inner
from wmkit_kernels.dplr_scan.op import check_reset

SPAN = 64
"""Steps per span where the tables are kept; their size grows with the square, the loop over spans shrinks."""
TRAINED_SPAN = 16
"""The same where tables are made for one call: for 64 steps of 16 rows longer ones take longer than the scan."""
RESET_SPAN = 8
"""The same where the sequence has resets, which cost a mask of (steps, steps) per span and row."""


@dataclasses.dataclass(frozen=True)
class ReadoutTables:
    """Matrices of R steps, to be multiplied from the left by rows of inputs and states."""

    respond: Tensor
    """(H, R, R): from inputs to outputs."""
    read: Tensor
    """(H, 2N, R): from the first state to outputs."""
    enter: Tensor
    """(H, R, 2N): from inputs to the last state."""
    turn: Tensor
    """(H, R + 1, N) complex: a^t."""

    @property
    def steps(self) -> int:
        """R."""
        return self.respond.shape[1]

    def shortened(self, steps: int) -> ReadoutTables:
        """The same for fewer steps."""
        last = slice(self.steps - steps, None)
        return ReadoutTables(
            self.respond[:, :steps, :steps], self.read[..., :steps], self.enter[:, last], self.turn[:, : steps + 1]
        )

    def turned(self, state: Tensor) -> Tensor:
        """a^R s: (H, B, 2N) -> the same."""
        return column(torch.view_as_complex(state.reshape(*state.shape[:-1], -1, 2)) * self.turn[:, -1:])

    def scan(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As many spans as u holds: u (H, B, S R), state (H, B, 2N) -> (y (H, B, S R), last state)."""
        rows = u.reshape(u.shape[0], -1, self.steps)
        states = [state]
        for entering in (rows @ self.enter).view(*u.shape[:2], -1, state.shape[2]).unbind(2):
            states.append(entering + self.turned(states[-1]))
        before = torch.stack(states[:-1], dim=2).flatten(1, 2)
        return torch.baddbmm(rows @ self.respond, before, self.read).view(u.shape), states[-1]

    def scan_with_resets(self, u: Tensor, state: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """One span: u (H, B, R), state (H, B, 2N), is_first (B, R); inputs reach the steps of their own segment."""
        segment = is_first.cumsum(1)
        unbroken, lasting = segment == 0, segment == segment[:, -1:]
        together = segment.unsqueeze(2) == segment.unsqueeze(1)
        inputs = (u.unsqueeze(2) @ (self.respond.unsqueeze(1) * together)).squeeze(2)
        y = inputs + torch.where(unbroken, state @ self.read, 0)
        kept = torch.where(unbroken[:, -1:], self.turned(state), 0)
        return y, torch.baddbmm(kept, torch.where(lasting, u, 0), self.enter)


def prepare_readout(
    a: Tensor, b: Tensor, c: Tensor, d: Tensor, steps: int = SPAN, dtype: torch.dtype = torch.float32
) -> ReadoutTables:
    """Tables for `diagonal_readout`, differentiable: a, b, c (H, N) complex, d (H,) real, made in double and cast."""
    a, b, c = (x.to(torch.complex128) for x in (a, b, c))
    table = powers(a, steps + 1)
    read = row(c.unsqueeze(1) * table[:, 1:]).mT
    kernel = inner((c * b).unsqueeze(1), table[:, :-1])[..., 0]
    respond = toeplitz(kernel).mT + torch.diag_embed(d.to(kernel.dtype).unsqueeze(1).expand_as(kernel))
    enter = column(table[:, :-1].flip(1) * b.unsqueeze(1))
    respond, read, enter = (x.to(dtype).contiguous() for x in (respond, read, enter))
    return ReadoutTables(respond, read, enter, table.to(torch.promote_types(dtype, torch.complex64)))


def diagonal_readout(
    tables: ReadoutTables, u: Tensor, state: Tensor | None = None, is_first: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The recurrence above: u (B, T, H), state (B, H, N, 2) or None for zeros -> (y (B, T, H), last state).

    `is_first` (B, T) bool or None for no reset; its values are never read on the host. Works in the precision of the
    tables, under autocast too; differentiable in tables, `u` and `state`. Raises `ValueError` for other
    shapes or dtypes.
    """
    channels, pairs = tables.turn.shape[0], tables.turn.shape[2]
    check_sequence(pairs, channels, u, state)
    check_reset(u, is_first)
    with torch.autocast(u.device.type, enabled=False):
        u = u.to(tables.respond.dtype)
        rest, last = by_channel(u), first_state(u, pairs, state)
        outputs: list[Tensor] = []
        if is_first is not None:
            pieces = torch.split(rest, RESET_SPAN, dim=2)  # one gradient for all of them, not one for each as long as u
            for piece, reset in zip(pieces, torch.split(is_first, RESET_SPAN, dim=1), strict=True):
                y, last = tables.shortened(piece.shape[2]).scan_with_resets(piece, last, reset)
                outputs.append(y)
            return torch.cat(outputs, dim=2).permute(1, 2, 0), pairs_of(last)
        whole = u.shape[1] // tables.steps * tables.steps
        for span, part in ((tables, slice(0, whole)), (tables.shortened(u.shape[1] - whole), slice(whole, None))):
            if rest[..., part].shape[2]:
                y, last = span.scan(rest[..., part], last)
                outputs.append(y)
        return torch.cat(outputs, dim=2).permute(1, 2, 0), pairs_of(last)


@dataclasses.dataclass(frozen=True)
class ReadoutStep:
    """What one step needs to know of the systems."""

    a: Tensor
    """(H, N) complex."""
    readout: Tensor
    """(H, 2N, 1) real: c a over (Re, Im) pairs, one column, which `einsum` multiplies faster than a vector."""
    b: Tensor
    """(H, 2N) real."""
    through: Tensor
    """(H,) real: 2 Re(c b) + d."""


def prepare_readout_step(a: Tensor, b: Tensor, c: Tensor, d: Tensor, dtype: torch.dtype = torch.float32) -> ReadoutStep:
    """Tables for `diagonal_readout_step`; arguments of `prepare_readout`."""
    a, b, c = (x.to(torch.complex128) for x in (a, b, c))
    real = (row(c * a).unsqueeze(-1), column(b), inner(c, b)[:, 0] + d)
    return ReadoutStep(a.to(torch.promote_types(dtype, torch.complex64)), *(x.to(dtype) for x in real))


def diagonal_readout_step(tables: ReadoutStep, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One step, y = 2 Re(c a s) + (2 Re(c b) + d) u and s' = a s + b u: u (B, H), state (B, H, N, 2)."""
    seen = torch.einsum("bhn,hnk->kbh", state.flatten(-2), tables.readout)[0]
    turned = column(torch.view_as_complex(state.contiguous()) * tables.a)
    return torch.addcmul(seen, tables.through, u), turned.addcmul_(tables.b, u.unsqueeze(-1)).view_as(state)
