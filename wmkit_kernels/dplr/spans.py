"""The DPLR recurrence over R steps at once, as dense real matrices over the (Re, Im) pairs of the state.

With the state a row s (2N) of such pairs, a step is s' = s M + u b, y = s' c, hence for t < R

    y_t = s_0 M^{t+1} c + sum_{j<=t} u_j (b M^{t-j} c) + d u_t,        s_R = s_0 M^R + sum_j u_j b M^{R-1-j}

which are products with four matrices per channel. All of them but M^R take every span of a sequence in one product; a
loop over the spans carries the state alone. Dearer to make than a `Chunk` (M is squared log2 R times in double
precision) and eight times its size, so worth it only where they are kept.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.common.power_series import toeplitz
from wmkit_kernels.dplr.chunks import column, row
from wmkit_kernels.dplr.system import Discrete

SPANS = (64, 32)
"""Steps per span, powers of two: long spans first, a short one for what is left. `respond` grows with the square, the
loop has fewer products. For 32 pairs in float32 they take 80 KiB per channel together."""


@dataclasses.dataclass(frozen=True)
class Span:
    """Matrices of R steps, to be multiplied from the left by rows of inputs and states."""

    respond: Tensor
    """(H, R, R): from inputs to outputs."""
    read: Tensor
    """(H, 2N, R): from the first state to outputs."""
    enter: Tensor
    """(H, R, 2N): from inputs to the last state."""
    carry: Tensor
    """(H, 2N, 2N): from the first state to the last."""

    @property
    def steps(self) -> int:
        """R."""
        return self.respond.shape[1]

    def shortened(self, carry: Tensor, steps: int) -> Span:
        """The same for fewer steps, whose `carry` is given."""
        fewer = slice(self.enter.shape[1] - steps, None)
        return Span(self.respond[:, :steps, :steps], self.read[..., :steps], self.enter[:, fewer], carry)

    def scan(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As many spans as u holds: u (H, B, S R), state (H, B, 2N) -> (y (H, B, S R), last state)."""
        channels, batch, length = u.shape
        rows = u.reshape(channels, -1, self.steps)
        entered = (rows @ self.enter).view(channels, batch, -1, state.shape[2])
        states = [state]
        for entering in entered.unbind(2):
            states.append(torch.baddbmm(entering, states[-1], self.carry))
        before = torch.stack(states[:-1], dim=2).flatten(1, 2)
        y = (rows @ self.respond).baddbmm_(before, self.read)
        return y.view(channels, batch, length), states[-1]


def bytes_per_channel(pairs: int, dtype: torch.dtype) -> int:
    """What the spans of `pairs` conjugate pairs keep: the longest in full, and M^R of every one."""
    longest, width = SPANS[0], 2 * pairs
    return dtype.itemsize * (longest * (longest + 2 * width) + len(SPANS) * width**2)


def spans_of(discrete: Discrete, inputs: Tensor, C: Tensor, D: Tensor, dtype: torch.dtype) -> tuple[Span, ...]:
    """One span for each of `SPANS`; input Bbar `inputs`, C (H, N), D (H,). Made in double precision and cast.

    By doubling: b M^j and M^j c for j < 2k are those for j < k and their products with M^k.
    """
    carry, enter, seen = _dense(discrete), column(inputs).unsqueeze(1), row(C).unsqueeze(2)
    read, carries = carry @ seen, {1: carry}
    while read.shape[2] < SPANS[0]:
        enter = torch.cat([enter @ carry, enter], dim=1)
        read = torch.cat([read, carry @ read], dim=2)
        carry = carries[read.shape[2]] = carry @ carry
    kernel = (column(inputs).unsqueeze(1) @ torch.cat([seen, read[..., :-1]], dim=2)).squeeze(1)
    respond = toeplitz(kernel).mT + torch.diag_embed(D.to(kernel.dtype).unsqueeze(1).expand_as(kernel))
    longest = Span(*(x.to(dtype).contiguous() for x in (respond, read, enter, carry)))
    return longest, *(longest.shortened(carries[steps].to(dtype), steps) for steps in SPANS[1:])


def _dense(discrete: Discrete) -> Tensor:
    """M (H, 2N, 2N): its rows are Abar of the unit vectors."""
    unit = torch.eye(2 * discrete.ratio.shape[-1], dtype=torch.float64, device=discrete.ratio.device)
    unit = torch.view_as_complex(unit.view(unit.shape[0], -1, 2))
    each = Discrete(discrete.ratio.unsqueeze(1), discrete.gain.unsqueeze(1), discrete.row.unsqueeze(1))
    return column(each.advance(unit))
