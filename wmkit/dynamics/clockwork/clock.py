"""When each level of a hierarchy ticks: host-side integers, read from tensors only where a call begins."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from typing import Self


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
