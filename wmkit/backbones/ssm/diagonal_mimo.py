"""One complex diagonal recurrence with many inputs and outputs: what S5 and the LRU share."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from wmkit.backbones.ssm.blocks import Recurrence
from wmkit_kernels import column, diagonal_scan, row


@dataclasses.dataclass(frozen=True)
class MimoTables:
    """The discretised system, its matrices real over the (Re, Im) pairs of the state."""

    transition: Tensor
    """(N,) complex: a, from state to state."""
    input_map: Tensor
    """(2N, H): from inputs to the state."""
    readout: Tensor
    """(H, 2N): from the state to outputs."""
    feedthrough: Tensor
    """(H,): D, from an input to its own output at once."""


class MimoStateSpace(Recurrence):
    """s_t = a s_{t-1} + B u_t, y_t = 2 Re(C s_t) + D u_t: one state (B, N, 2) for all H channels.

    B and C are dense, so a state costs 2N numbers per row and not 2N per channel: all states of a sequence are at hand,
    and a scan is two matrix products around `diagonal_scan`.
    """

    @abstractmethod
    def system(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(a (N,), B (N, H), C (H, N) complex, D (H,) real), discretised, in the recurrence's precision."""

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, N, 2)."""
        return torch.zeros(batch_size, self.pairs, 2, dtype=self.dtype, device=next(self.parameters()).device)

    @property
    @abstractmethod
    def pairs(self) -> int:
        """N."""

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: u (B, H), state (B, N, 2) -> (y (B, H), state)."""
        with torch.autocast(u.device.type, enabled=False):
            tables, u = self._tables(), u.to(self.dtype)
            carried = column(torch.view_as_complex(state.contiguous()) * tables.transition)  # (B, 2N)
            state = torch.addmm(carried, u, tables.input_map.mT)  # (B, 2N)
            return torch.addmm(tables.feedthrough * u, state, tables.readout.mT), state.view(*u.shape[:-1], -1, 2)

    def scan(
        self, u: Tensor, state: Tensor | None, is_first: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        """All steps: u (B, T, H), state (B, N, 2) or None for zeros -> (y (B, T, H), last state or None)."""
        with torch.autocast(u.device.type, enabled=False):
            tables, u = self._tables(), u.to(self.dtype)
            entered = torch.view_as_complex(F.linear(u, tables.input_map).view(*u.shape[:2], -1, 2))  # (B, T, N)
            start = None if state is None else torch.view_as_complex(state.to(self.dtype).contiguous())  # (B, N)
            states = column(diagonal_scan(tables.transition, entered, start, is_first))  # (B, T, 2N)
            y = F.linear(states, tables.readout) + tables.feedthrough * u
            if not return_state:
                return y, None
            return y, states[:, -1].reshape(u.shape[0], -1, 2).clone()  # a view would keep all states in memory

    def _tables(self) -> MimoTables:
        """The system as `step` and `scan` take it."""

        def make() -> MimoTables:
            a, B, C, D = self.system()
            return MimoTables(a, column(B.mT).mT.contiguous(), row(C), D)

        return self.table("tables", make)
