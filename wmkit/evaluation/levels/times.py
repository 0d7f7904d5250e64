"""What a level costs: training time of runs, relative to one of them (CW-VAE, Table D.1)."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from wmkit.evaluation.levels.base import Analysis, Findings, Runs, option, register_analysis
from wmkit.evaluation.plots.figures import DOTS_PER_INCH
from wmkit.evaluation.tables import Table
from wmkit.loading import run_config
from wmkit.training.log import read_lines


@dataclasses.dataclass(frozen=True)
class TrainingTime:
    """How fast a run trained, by the lines of its `timing.jsonl`."""

    label: str
    frames: int
    """Of a batch: rows times steps."""
    frames_per_second: float
    """Median over the lines of the log: a pause of the machine weighs no more than one line."""
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""

    @property
    def milliseconds(self) -> float:
        """Time of one optimiser step."""
        return 1000 * self.frames / self.frames_per_second

    def relative_to(self, base: TrainingTime) -> float:
        """Time for as many frames, as a multiple of `base`'s."""
        return base.frames_per_second / self.frames_per_second

    def to_json(self, base: TrainingTime) -> dict[str, Any]:
        """Plain values."""
        return {
            **dataclasses.asdict(self),
            "milliseconds_per_step": self.milliseconds,
            "relative_to": base.label,
            "relative": self.relative_to(base),
        }


def training_times(runs: Mapping[str, Path]) -> list[TrainingTime]:
    """Training times of the runs, in their order; raises `ValueError` for one that has logged no step."""
    found = []
    for label, run in runs.items():
        data = run_config(run).data
        lines = [line["values"] for line in read_lines(run / "timing.jsonl") if line["split"] == "train"]
        speeds = [values["frames_per_second"] for values in lines]
        if not speeds:
            raise ValueError(f"{run} has no timing yet: let it train up to its first log line (train.log_every)")
        low, middle, high = statistics.quantiles(speeds, n=4, method="inclusive") if len(speeds) > 1 else speeds * 3
        found.append(TrainingTime(label, data.batch_size * data.length, middle, low, high))
    return found


@register_analysis("times")
@dataclasses.dataclass(frozen=True, kw_only=True)
class TimesAnalysis(Analysis):
    """Training time of runs relative to one of them."""

    help = "Training time of runs relative to the first."
    several = True

    base: str | None = option(None, "label of the run that the others are compared with (default: the first)", str)

    def find(self, runs: Runs) -> Findings:
        found = training_times(runs)
        by_label = {time.label: time for time in found}
        if self.base is not None and self.base not in by_label:
            raise ValueError(f"base: expected one of {', '.join(by_label)}, got {self.base}")
        first = found[0] if self.base is None else by_label[self.base]
        table = Table(
            f"Training time relative to {first.label}",
            ["run", "relative", "ms a step", "frames/s", "quartiles"],
            [
                [
                    time.label,
                    f"{time.relative_to(first):.2f}",
                    f"{time.milliseconds:.1f}",
                    f"{time.frames_per_second:,.0f}",
                    f"{time.low:,.0f} .. {time.high:,.0f}",
                ]
                for time in found
            ],
            "Per frame; medians over the lines of the log, quartiles of frames/s.",
        )
        return Findings({"runs": [time.to_json(first) for time in found]}, draw_times(found, first), table)


def draw_times(found: Sequence[TrainingTime], base: TrainingTime) -> Figure:
    """Training time of as many frames, relative to `base`."""
    figure = Figure(figsize=(6.0, 1.0 + 0.4 * len(found)), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    relative = [time.relative_to(base) for time in found]
    axes.barh([time.label for time in found], relative, color="tab:blue", alpha=0.6)
    for place, (time, value) in enumerate(zip(found, relative, strict=True)):
        axes.text(value, place, f" {value:.2f}  ({time.milliseconds:.0f} ms a step)", va="center", fontsize=8)
    axes.set_xlim(0, 1.45 * max(relative))
    axes.invert_yaxis()
    axes.set_xlabel(f"training time per frame, relative to {base.label}")
    return figure
