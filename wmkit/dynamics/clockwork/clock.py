"""When each level of a hierarchy ticks, and the sums over what lies between its ticks.

Ticks are host-side integers, read from tensors only where a call begins. A slow level reads sums of the frames, or
actions, between two of its ticks.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Self

import torch
from einops import rearrange, repeat
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Clock:
    """Level l = 1..L ticks every `strides[l - 1]` steps: at t = 1, 2, ... of an episode where (t - 1) mod s_l = 0.

    Between its ticks a level's state is copied. The phase of a step is (t - 1) mod s_L. Raises `ValueError` unless
    level 1 ticks at every step and every stride is a multiple of the one below.
    """

    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        pairs = itertools.pairwise(self.strides)
        if not self.strides or self.strides[0] != 1 or any(b < a or b % a for a, b in pairs):
            raise ValueError(
                f"strides: expected 1 for the bottom level and for each other a multiple of the one below, "
                f"got {list(self.strides)}"
            )

    @classmethod
    def regular(cls, levels: int, factor: int) -> Self:
        """Strides 1, k, k^2, ...; raises `ValueError` for less than one level or a factor below 1."""
        if levels < 1 or factor < 1:
            raise ValueError(f"expected levels >= 1 and factor >= 1, got levels={levels}, factor={factor}")
        return cls(tuple(factor**level for level in range(levels)))

    @property
    def period(self) -> int:
        """Steps after which all levels tick together."""
        return self.strides[-1]

    def phase_before(self, context: int, at_tick: bool) -> int:
        """The phase from which `context` steps end where all levels tick: at the last one (`at_tick`), or just after.

        Never positive: minus the steps until then. Raises `ValueError` for a context below 1.
        """
        if context < 1:
            raise ValueError(f"context: expected at least 1 step, got {context}")
        return int(at_tick) - context

    def timing(self, length: int, phase: int = 0, begins: bool = True) -> Timing:
        """The ticks of `length` steps, of which the first is at `phase`.

        `begins`: an episode begins there, and then every level ticks, whatever the phase.
        """
        ticks = tuple(
            [t for t in range(length) if (phase + t) % stride == 0 or (begins and t == 0)] for stride in self.strides
        )
        return Timing(phase, length, ticks)


@dataclasses.dataclass(frozen=True)
class Timing:
    """The ticks of one call, as columns 0..length-1."""

    phase: int
    """Of column 0."""
    length: int
    ticks: tuple[list[int], ...]
    """For each level, bottom first, the columns at which it ticks."""

    def parents(self, level: int) -> list[int]:
        """For each tick of a level which state of the one above is copied there; 0 at the top.

        0 is the state from before the call, j + 1 that of its tick j.
        """
        if level + 1 == len(self.ticks):
            return [0] * len(self.ticks[level])
        return [bisect.bisect_right(self.ticks[level + 1], t) for t in self.ticks[level]]


def sums_ahead(x: Tensor, ticks: Sequence[int]) -> Tensor:
    """Sum of x (B, T, E) from each tick to the step before the next one, or to the end: (B, ticks, E).

    The last window may be shorter, as if x were zero-padded on the right. Steps before the first tick enter nothing.
    """
    return _sums(x, [0, *ticks, x.shape[1]])[:, 1:]


def sums_behind(
    x: Tensor, ticks: Sequence[int], carried: Tensor | None, is_first: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Sum of x (B, T, E) from the step after the last tick to each tick: (B, ticks, E); and what came after the last.

    carried (B, E): the sum of the steps before this call that no tick has read, if there are any. is_first (B, T): a
    tick where an episode begins reads its own step only.
    """
    sums = _sums(x, [0, *(t + 1 for t in ticks), x.shape[1]])  # (B, ticks + 1, E)
    if carried is not None:
        sums = torch.cat([sums[:, :1] + carried.unsqueeze(1), sums[:, 1:]], dim=1)
    read, after = sums[:, :-1], sums[:, -1]  # (B, ticks, E), (B, E)
    if is_first is not None:
        columns = list(ticks)
        read = torch.where(is_first[:, columns].unsqueeze(-1), x[:, columns].to(read.dtype), read)
    return read, after


def repeat_to_ticks(x: Tensor, numbers: Sequence[int]) -> Tensor:
    """x (B, m, C) at `numbers`, n of them in rising order: (B, n, C).

    What is repeated equally often lies side by side, so that each run of it is one copy, and one sum in the gradient.
    """
    runs = _runs([numbers.count(i) for i in range(x.shape[1])])
    pieces = torch.split(x, [n for _, n in runs], dim=1)
    repeated = [
        repeat(piece, "b m c -> b (m times) c", times=times) for piece, (times, _) in zip(pieces, runs, strict=True)
    ]
    return torch.cat(repeated, dim=1)


def _sums(x: Tensor, edges: Sequence[int]) -> Tensor:
    """Sum x (B, T, E) from each edge to before the next, 0 first and T last: (B, edges - 1, E), float32 or better.

    Windows of one width lie side by side, so that each run of them is one reduction.
    """
    runs = _runs([stop - start for start, stop in itertools.pairwise(edges)])
    pieces = torch.split(x, [steps * n for steps, n in runs], dim=1)
    dtype = torch.promote_types(x.dtype, torch.float32)
    sums = [
        rearrange(piece, "b (n steps) e -> b n steps e", n=n).sum(2, dtype=dtype)
        for piece, (_, n) in zip(pieces, runs, strict=True)
    ]
    return torch.cat(sums, dim=1)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours that are equal, as (number, how many)."""
    return [(number, len(list(run))) for number, run in itertools.groupby(numbers)]
