"""Which level takes the information when the video moves slower or faster? (TALD, Figure 8)"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from wmkit.evaluation.levels.kl import LevelKL
from wmkit.evaluation.record import Verdict


@dataclasses.dataclass(frozen=True)
class SpeedRun:
    """One run, trained and measured at one speed of the world."""

    label: str
    speed: float
    """Of the world, relative to its usual one."""
    kl: LevelKL


@dataclasses.dataclass(frozen=True)
class SpeedAdaptation:
    """KL of the levels of separately trained runs, by speed; the runs of one speed are seeds."""

    runs: tuple[SpeedRun, ...]

    def __post_init__(self) -> None:
        if len({run.kl.levels for run in self.runs}) != 1 or len(self.speeds) < 2:
            raise ValueError(
                "Speeds: expected runs of equally many levels at two speeds or more, got "
                + ", ".join(f"{run.label}: {run.kl.levels} levels at speed {run.speed:g}" for run in self.runs)
            )

    @property
    def speeds(self) -> list[float]:
        """From slow to fast."""
        return sorted({run.speed for run in self.runs})

    @property
    def levels(self) -> int:
        """The number of levels, the same in every run."""
        return self.runs[0].kl.levels

    def at(self, speed: float, level: int) -> list[float]:
        """Nats per clip of a level, one number per run of that speed."""
        return [run.kl.nats(level).mean for run in self.runs if run.speed == speed]

    def means(self, level: int) -> list[float]:
        """Mean over the runs of each speed, from slow to fast."""
        return [statistics.fmean(self.at(speed, level)) for speed in self.speeds]

    def verdicts(self) -> list[Verdict]:
        """What TALD's Figure 8 says: faster digits, more at level 1 and less at level 2."""
        rises = self._moves(1, "rises", 1)
        return [rises, self._moves(2, "falls", -1)] if self.levels > 1 else [rises]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "speeds": self.speeds,
            "mean_nats_per_clip": {f"level {i}": self.means(i) for i in range(1, self.levels + 1)},
            "runs": [{"run": run.label, "speed": run.speed, **run.kl.to_json()} for run in self.runs],
            "verdicts": [dataclasses.asdict(verdict) for verdict in self.verdicts()],
        }

    def _moves(self, level: int, verb: str, sign: int) -> Verdict:
        """From every speed to the next one, no run of the slower one overlapping with those of the faster one."""
        ranges = [self.at(speed, level) for speed in self.speeds]
        holds = all(_lies_beyond(after, before, sign) for before, after in itertools.pairwise(ranges))
        figures = ", ".join(f"{mean:.3g}" for mean in self.means(level))
        return Verdict("kl", f"KL at level {level} {verb} with speed, in every run", holds, f"{figures} nats a clip")


def _lies_beyond(after: Sequence[float], before: Sequence[float], sign: int) -> bool:
    return min(after) > max(before) if sign > 0 else max(after) < min(before)
