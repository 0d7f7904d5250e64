"""What a level costs: training time of runs, relative to one of them (CW-VAE, Table D.1)."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        """Of one optimiser step."""
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
    """Of every run, by label; raises `ValueError` for one that has logged no step."""
    return [_time(label, run) for label, run in runs.items()]


def _time(label: str, run: Path) -> TrainingTime:
    data = run_config(run).data
    lines = [line["values"] for line in read_lines(run / "timing.jsonl") if line["split"] == "train"]
    speeds = [values["frames_per_second"] for values in lines]
    if not speeds:
        raise ValueError(f"{run} has no timing yet: let it train up to its first log line (train.log_every)")
    low, middle, high = statistics.quantiles(speeds, n=4, method="inclusive") if len(speeds) > 1 else speeds * 3
    return TrainingTime(label, data.batch_size * data.length, middle, low, high)
