"""The DPLR recurrence over R steps at once, as real matrices over the (Re, Im) pairs of the state.

One step is x_{t+1} = a x_t - g alpha_t + Bbar u_t with alpha_t = q x_t, and
y_t = C x_{t+1} = (C Abar) x_t + (C Bbar) u_t.
Over a chunk, the rows r = q and r = C Abar all see

    r x_t = (r Abar^t) x_0 + sum_{j<t} (r Abar^{t-1-j} Bbar) u_j

and once alpha is known the last state is a plain geometric sum: x_R = a^R x_0 + sum_j a^{R-1-j} (Bbar u_j - g alpha_j).
So a chunk takes three matrix products, no (2N)^2 matrix and no recursion over its steps.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.common.segments import by_segment
from wmkit_kernels.common.series import column, powers, row, shift, toeplitz
from wmkit_kernels.dplr.system import Discrete

CHUNK = 8
"""Steps per chunk: the matrices grow with it, the number of chunks shrinks with it. On a CPU 8 is best for 64 steps of
192 channels with backward, and within a fifth of the best for 1000 steps of 512."""

PREPARED_CHUNK = 16
"""Where the maps are kept for many calls without gradients: a tenth faster than 8, a quarter at small sizes."""

KEPT_EVERY = 32
"""Steps between two states that a forward pass in Triton keeps for the backward pass."""


def kept_count(length: int) -> int:
    """How many states a forward pass in Triton keeps of `length` steps."""
    return (length + KEPT_EVERY - 1) // KEPT_EVERY


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The maps of R steps with the K = 2 rows q and C Abar; all but `transition` are real."""

    response: Tensor
    """(H, K, R, R): r Abar^{t-1-j} Bbar, from input j to row t."""
    readout: Tensor
    """(H, K, R, 2N): r Abar^t, from the first state to row t."""
    input_map: Tensor
    """(H, 2, R, 2N): a^{R-1-j} Bbar and -a^{R-1-j} g, from input j and alpha_j to the last state."""
    transition: Tensor
    """(H, R + 1, N) complex: a^t, from the first state to the state before step t, but for alpha."""

    def scan(self, u: Tensor, state: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Chunk after chunk: u (H, B, T), state (H, B, 2N) -> (outputs (H, B, T) but for C Bbar u, last state)."""
        outputs, steps = [], self.transition.shape[1] - 1
        pieces = torch.split(u, steps, dim=2)  # one gradient for all; that of a slice is as long as u, for each chunk
        if is_first is None:
            for piece in pieces:
                y, state = self._shortened(piece.shape[2])._step(piece, state)
                outputs.append(y)
        else:
            for piece, resets in zip(pieces, by_segment(self.response, u, is_first), strict=True):
                y, state = self._shortened(piece.shape[2])._step_with_resets(piece, state, *resets)
                outputs.append(y)
        return torch.cat(outputs, dim=2), state

    def _shortened(self, steps: int) -> Chunk:
        """The same for fewer steps."""
        return Chunk(
            self.response[:, :, :steps, :steps],
            self.readout[:, :, :steps],
            self.input_map[:, :, self.input_map.shape[2] - steps :],
            self.transition[:, : steps + 1],
        )

    def _step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One chunk: u (H, B, R), state (H, B, 2N)."""
        rows = torch.baddbmm(u @ self.response.flatten(1, 2).mT, state, self.readout.flatten(1, 2).mT)  # (H, B, K R)
        alpha, y = rows.chunk(2, dim=-1)
        return y, self._last(u, alpha, state)

    def _step_with_resets(
        self, u: Tensor, state: Tensor, segment: Tensor, from_inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same with resets so far (B, R) and what inputs add (H, B, K, R), of `by_segment`.

        The state reaches the steps of segment 0, and the last state comes from the last segment.
        """
        from_state = (state @ self.readout.flatten(1, 2).mT).view(from_inputs.shape)
        alpha, y = (from_inputs + torch.where((segment == 0).unsqueeze(1), from_state, 0)).unbind(2)  # (H, B, R)
        lasting = segment == segment[:, -1:]  # (B, R): steps of the last segment
        state = torch.where(segment[:, -1:] == 0, state, 0)
        return y, self._last(torch.where(lasting, u, 0), torch.where(lasting, alpha, 0), state)

    def _last(self, u: Tensor, alpha: Tensor, state: Tensor) -> Tensor:
        """The last state from inputs and alpha (H, B, R) and the first state (H, B, 2N)."""
        state = column(torch.view_as_complex(state.view(*state.shape[:-1], -1, 2)) * self.transition[:, -1:])
        return torch.baddbmm(state, torch.cat([u, alpha], dim=-1), self.input_map.flatten(1, 2))


def chunk_of(discrete: Discrete, Bbar: Tensor, C: Tensor, steps: int, dtype: torch.dtype) -> Chunk:
    """The maps of `steps` steps, Bbar and C (H, N), built in double precision and then cast."""
    backwards = discrete.transposed()
    rows = [torch.stack([discrete.q, backwards.advance(C.to(Bbar.dtype))])]  # (K, H, N): r Abar^t at t = 0
    for _ in range(steps - 1):  # for so few steps the recurrence takes a third of the time of `dplr_kernel`'s series
        rows.append(backwards.advance(rows[-1]))
    readout = row(torch.stack(rows, dim=2).transpose(0, 1))  # (H, K, R, 2N)
    series = shift((readout @ column(Bbar)[:, None, :, None]).squeeze(-1))  # (H, K, R): r Abar^{t-1} Bbar, 0 at t = 0
    transition = powers(discrete.a, steps + 1)  # (H, R + 1, N)
    transition, entries = (x.to(dtype.to_complex()) for x in (transition, torch.stack([Bbar, -discrete.g], dim=1)))
    input_map = column(transition[:, :-1].flip(1).unsqueeze(1) * entries.unsqueeze(2))  # (H, 2, R, 2N)
    return Chunk(toeplitz(series).to(dtype), readout.to(dtype), input_map, transition)
