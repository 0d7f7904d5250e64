"""A share of independent yes-or-no outcomes, with its interval."""

from __future__ import annotations

import dataclasses
import math

from wmkit.evaluation.errors import NORMAL_95


@dataclasses.dataclass(frozen=True)
class Proportion:
    """`hits` of `number` episodes."""

    hits: int
    number: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.number or self.number < 1:
            raise ValueError(f"Proportion: expected 0 <= hits <= number and number >= 1, got {self.hits}/{self.number}")

    @property
    def share(self) -> float:
        """The share of hits."""
        return self.hits / self.number

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of Wilson (1927), which keeps inside [0, 1] and its coverage near both ends.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),  z = 1.96
        """
        p, n, z = self.share, self.number, NORMAL_95
        centre = p + z**2 / (2 * n)
        half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        scale = 1 + z**2 / n
        # at p = 0 and 1 an end of the interval is p itself, up to rounding
        return max(0.0, min(p, (centre - half) / scale)), min(1.0, max(p, (centre + half) / scale))

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.share:.1%} [{low:.1%}, {high:.1%}]"
