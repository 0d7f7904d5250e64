"""Which level takes the information when the video moves slower or faster? (TALD, Figure 8)"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from wmkit.evaluation.levels.base import Findings, Runs, colour_of, register_analysis
from wmkit.evaluation.levels.kl import KLAnalysis, LevelKL
from wmkit.evaluation.plots.figures import DOTS_PER_INCH
from wmkit.evaluation.record import Verdict
from wmkit.evaluation.tables import Table
from wmkit.loading import run_config


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
        """The speeds, from slow to fast."""
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
        """What TALD's Figure 8 says: faster digits, more at level 1 and less at level 2.

        From every speed to the next one, no run of the slower one overlapping with those of the faster one.
        """
        found = []
        for level, verb in ((1, "rises"), (2, "falls"))[: self.levels]:
            steps = itertools.pairwise(self.at(speed, level) for speed in self.speeds)
            holds = all(min(fast) > max(slow) if verb == "rises" else max(fast) < min(slow) for slow, fast in steps)
            claim = f"KL at level {level} {verb} with speed, in every run"
            figures = ", ".join(f"{mean:.3g}" for mean in self.means(level))
            found.append(Verdict("kl", claim, holds, f"{figures} nats a clip"))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "speeds": self.speeds,
            "mean_nats_per_clip": {f"level {i}": self.means(i) for i in range(1, self.levels + 1)},
            "runs": [{"run": run.label, "speed": run.speed, **run.kl.to_json()} for run in self.runs],
            "verdicts": [dataclasses.asdict(verdict) for verdict in self.verdicts()],
        }


@register_analysis("speeds")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeedsAnalysis(KLAnalysis):
    """KL per level of runs, by the speed of their worlds."""

    help = "KL per level of runs at different speeds of the world."

    def find(self, runs: Runs) -> Findings:
        kl = self.kl_of(runs)
        found = SpeedAdaptation(tuple(SpeedRun(label, speed_of(runs[label]), one) for label, one in kl.items()))
        rows = []
        for place, speed in enumerate(found.speeds):
            cells = []
            for level in range(1, found.levels + 1):
                each = ", ".join(f"{nats:.3g}" for nats in found.at(speed, level))
                cells.append(f"{found.means(level)[place]:.4g} ({each})")
            rows.append([f"{speed:.3g}", *cells])
        table = Table(
            f"KL per level by speed, nats per clip of {found.runs[0].kl.length} frames",
            ["speed", *(f"level {level}" for level in range(1, found.levels + 1))],
            rows,
            "\n".join(["Mean over separately trained runs, in brackets each of them.", *map(str, found.verdicts())]),
        )
        return Findings(found.to_json(), draw_speeds(found), table)


def speed_of(run: Path) -> float:
    """How fast the run's world moves, relative to its usual speed; raises `ValueError` for one that has no speed."""
    config = run_config(run)
    if config.data.source is not None:
        raise ValueError(
            f"{run}: it was trained on the archive {config.data.source}, which does not say how fast it is"
        )
    world = config.world
    speed = getattr(world, "speed", None)
    if speed is None:
        raise ValueError(
            f"{run}: its world {world.name} has no speed; train on moving_mnist_slow, moving_mnist, moving_mnist_fast"
        )
    return float(speed)


def draw_speeds(found: SpeedAdaptation) -> Figure:
    """One panel per level: every run a dot, their mean at each speed a bar."""
    figure = Figure(figsize=(1.0 + 2.6 * found.levels, 3.4), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(1, found.levels, squeeze=False)[0]
    places = range(len(found.speeds))
    for level, axes in enumerate(panels, start=1):
        axes.bar(places, found.means(level), 0.6, color=colour_of(level), alpha=0.45)
        for place, speed in zip(places, found.speeds, strict=True):
            nats = found.at(speed, level)
            axes.plot([place] * len(nats), nats, "o", color=colour_of(level), markersize=4)
        axes.set_xticks(places, [f"x{v:g}" if v >= 1 else f"x1/{1 / v:g}" for v in found.speeds])
        axes.set_title(f"level {level}", fontsize=10)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("speed of the digits")
        axes.grid(axis="y", alpha=0.25)
    panels[0].set_ylabel("KL(q || p), nats per clip")
    length = found.runs[0].kl.length
    figure.suptitle(f"clips of {length} frames; a dot is a run of its own, a bar their mean", fontsize=9)
    return figure
