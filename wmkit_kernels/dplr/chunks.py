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

from wmkit_kernels.common.geometric_sums import powers
from wmkit_kernels.common.power_series import shift, toeplitz
from wmkit_kernels.dplr.krylov import orbit_series
from wmkit_kernels.dplr.system import Discrete

CHUNK = 8
"""Steps per chunk: the matrices grow with it, the number of chunks shrinks with it. On a CPU 8 is best for 64 steps of
192 channels with backward, and within a fifth of the best for 1000 steps of 512."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Matrices of R steps with the K = 2 rows q and C Abar; real in the precision of the inputs but for `turn`."""

    mix: Tensor
    """(H, K, R, R): r Abar^{t-1-j} Bbar, from input j to row t."""
    read: Tensor
    """(H, K, R, 2N): r Abar^t, from the first state to row t."""
    write: Tensor
    """(H, 2, R, 2N): a^{R-1-j} Bbar and -a^{R-1-j} g, from input j and alpha_j to the last state."""
    turn: Tensor
    """(H, R + 1, N) complex: a^t."""

    def shortened(self, steps: int) -> Chunk:
        """The same for fewer steps."""
        return Chunk(
            self.mix[:, :, :steps, :steps],
            self.read[:, :, :steps],
            self.write[:, :, self.write.shape[2] - steps :],
            self.turn[:, : steps + 1],
        )

    def rows(self, u: Tensor, state: Tensor) -> Tensor:
        """All rows at all steps: u (H, B, R), state (H, B, 2N) -> (H, B, K R)."""
        return torch.baddbmm(u @ self.mix.flatten(1, 2).mT, state, self.read.flatten(1, 2).mT)

    def rows_within(self, segment: Tensor, u: Tensor, state: Tensor) -> Tensor:
        """`rows` where inputs reach their own segment only and the state segment 0: segment (B, R) counts resets."""
        together = (segment.unsqueeze(2) == segment.unsqueeze(1)).unsqueeze(1)
        inputs = (self.mix.unsqueeze(1) * together) @ u.unsqueeze(2).unsqueeze(-1)
        seen = state @ self.read.flatten(1, 2).mT
        return inputs.flatten(2) + torch.where((segment == 0).repeat(1, self.mix.shape[1]), seen, 0)

    def leave(self, state: Tensor, u: Tensor, alpha: Tensor) -> Tensor:
        """The last state (H, B, 2N)."""
        turned = torch.view_as_complex(state.view(*state.shape[:-1], -1, 2)) * self.turn[:, -1:]
        return torch.baddbmm(column(turned), torch.cat([u, alpha], dim=-1), self.write.flatten(1, 2))


def chunk_of(discrete: Discrete, inputs: Tensor, C: Tensor, steps: int, dtype: torch.dtype) -> Chunk:
    """The matrices for `steps` steps with input Bbar `inputs` (H, N), built in double precision and then cast."""
    left = torch.stack([discrete.row, discrete.transposed().advance(C.to(inputs.dtype))], dim=1)
    series = shift(orbit_series(discrete, left, torch.stack([inputs, discrete.gain], dim=1), steps))
    to_inputs, to_gain = toeplitz(series).unbind(2)
    table = powers(discrete.ratio, steps + 1)
    decay = table[:, :-1]
    read = row(decay.unsqueeze(1) * left.unsqueeze(2)) - to_gain @ row(decay * discrete.row.unsqueeze(1)).unsqueeze(1)
    table, entries = table.to(dtype.to_complex()), torch.stack([inputs, -discrete.gain], dim=1).to(dtype.to_complex())
    write = column(table[:, :-1].flip(1).unsqueeze(1) * entries.unsqueeze(2))
    return Chunk(to_inputs.to(dtype), read.to(dtype), write, table)


def by_channel(u: Tensor) -> Tensor:
    """Time last: (B, T, H) -> (H, B, T), as the transpose of one matrix, which copies faster than a permutation."""
    return u.flatten(0, 1).t().contiguous().view(u.shape[2], u.shape[0], u.shape[1])


def first_state(u: Tensor, pairs: int, state: Tensor | None) -> Tensor:
    """The state before the first of u (B, T, H), or zeros: (B, H, N, 2) -> (H, B, 2N)."""
    if state is None:
        return u.new_zeros(u.shape[2], u.shape[0], 2 * pairs)
    return state.to(u.dtype).contiguous().flatten(2).transpose(0, 1)


def pairs_of(state: Tensor) -> Tensor:
    """(H, B, 2N) -> (B, H, N, 2), the inverse of `first_state`."""
    return state.transpose(0, 1).reshape(state.shape[1], state.shape[0], -1, 2)


def row(x: Tensor) -> Tensor:
    """A row that acts on (Re, Im) pairs as s -> 2 Re(x s): (..., N) complex -> (..., 2N) real."""
    return column(2 * x.conj())


def column(x: Tensor) -> Tensor:
    """(Re, Im) pairs: (..., N) complex -> (..., 2N) real."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)
