"""What one cell found: its validations over time, its test, its cost; read from its run folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from wmkit.comparison.cell import Cell, CellFiles, Status
from wmkit.training.checkpoints import CheckpointFolder
from wmkit.training.log import read_lines

FIRST_MAP, DOOR_MAJORITY = "first map, true walk", "the more frequent at each step"
ACCURACY = "reward_accuracy_imagined"
"""Name of the validation's accuracy of imagined rewards, where the model predicts them."""


@dataclasses.dataclass(frozen=True)
class Validation:
    """One validation while training."""

    step: int
    minutes: float
    """Minutes of training before it."""
    loss: float
    """Nats per observation."""
    accuracy: float | None
    """Share of held-out episodes whose reward was imagined right; None where no reward is predicted."""


@dataclasses.dataclass(frozen=True)
class CellResult:
    """Everything that is known about a cell; what it has not come to is None or empty."""

    cell: Cell
    status: Status
    error: str | None = None
    validations: tuple[Validation, ...] = ()
    steps: int | None = None
    minutes: float | None = None
    """Minutes of training."""
    skipped: int | None = None
    """Steps without a finite gradient."""
    frames_per_second: float | None = None
    """While training, waiting for data included."""
    parameters: int | None = None
    peak_memory_bytes: int | None = None
    evaluation: dict[str, Any] | None = None
    """`evaluation.json`."""

    @property
    def last(self) -> Validation | None:
        """The validation at the end of the budget, of a cell that has come there."""
        return self.validations[-1] if self.status is Status.DONE and self.validations else None

    def accuracy(self, kind: str) -> float | None:
        """Test accuracy of the reward: `imagination`, `inference`, or `majority`, which always answers the same."""
        entry = self._reward(kind)
        return entry["accuracy"] if entry else None

    def interval(self, kind: str) -> tuple[float, float] | None:
        """95 % interval of that accuracy over test episodes."""
        entry = self._reward(kind)
        return (entry["low"], entry["high"]) if entry and "low" in entry else None

    def curve(self, row: str) -> list[float]:
        """Error per query step of one row of the evaluation, such as `generation`; empty where there is none."""
        curves = (self.evaluation or {}).get("query_curves", {})
        return curves[row]["mean"] if row in curves else []

    def error_of(self, row: str) -> float | None:
        """Mean of `curve` over the query."""
        curve = self.curve(row)
        return sum(curve) / len(curve) if curve else None

    def doors(self, row: str = "generation", what: str = "door, both") -> float | None:
        """Share of the doors in imagined pictures whose colour and state are right, in worlds that have doors."""
        return self._doors(row, what).get("mean")

    def doors_interval(self) -> tuple[float, float] | None:
        """95 % interval of `doors` over test episodes."""
        entry = self._doors("generation", "door, both")
        return (entry["mean"] - entry["half_width"], entry["mean"] + entry["half_width"]) if entry else None

    def door_curve(self, row: str) -> list[float | None]:
        """Share of doors in view that are rightly open or shut, per query step; None where no door is in view."""
        return self._doors(row, "door, open or shut").get("curve", [])

    def _doors(self, row: str, what: str) -> dict[str, Any]:
        return (self.evaluation or {}).get("tile_accuracy", {}).get(row, {}).get(what, {})

    def _reward(self, kind: str) -> dict[str, float] | None:
        entry = (self.evaluation or {}).get("reward_accuracy", {}).get(kind)
        return entry if isinstance(entry, dict) else None

    def to_json(self) -> dict[str, Any]:
        """Plain values; of the test what the report shows, all of it is in the cell's own `evaluation.json`."""
        values = dataclasses.asdict(self)
        del values["evaluation"]
        kinds = ("imagination", "inference")
        return values | {
            "name": self.cell.name,
            **{f"{kind}_accuracy": self.accuracy(kind) for kind in kinds},
            **{f"{kind}_accuracy_interval": self.interval(kind) for kind in kinds},
            "doors_right": self.doors(),
            "doors_right_interval": self.doors_interval(),
            "doors_rightly_open_or_shut_by_query_step": self.door_curve("generation"),
            "generation_error": self.error_of("generation"),
            "reconstruction_error": self.error_of("reconstruction"),
            "error_by_query_step": {row: self._rounded(row) for row in (self.evaluation or {}).get("query_curves", {})},
        }

    def _rounded(self, row: str) -> list[float]:
        """`curve` to four digits, which is more than its interval is worth."""
        return [float(f"{value:.4g}") for value in self.curve(row)]


def read_cell(comparison: Path, cell: Cell) -> CellResult:
    """The result of `cell` in the folder `comparison`, as far as it has come."""
    files = CellFiles.of(comparison, cell)
    record, finished = files.record(), _json(files.run / "finished.json")
    status = files.status()
    return CellResult(
        cell,
        status,
        error=record.get("error"),
        validations=tuple(_validations(files.run)),
        steps=finished.get("step"),
        minutes=finished["seconds"] / 60 if finished else None,
        skipped=finished.get("skipped"),
        frames_per_second=_speed(files.run),
        parameters=record.get("parameters"),
        peak_memory_bytes=record.get("peak_memory_bytes"),
        evaluation=_tested(files.run, finished["step"]) if status is Status.DONE else None,
    )


def _tested(run: Path, steps: int) -> dict[str, Any] | None:
    """`evaluation.json`, which must be of the last checkpoint; `ValueError` where a later evaluation took its place."""
    path = run / "evaluation.json"
    found = _json(path)
    last = CheckpointFolder(run / "checkpoints").folder(steps).name
    if (checkpoint := found.get("checkpoint", last)) != last:
        raise ValueError(
            f"{path} is of checkpoint {checkpoint}, a comparison is of the last one, {last}: test it again by "
            f'wmkit.evaluation.run.evaluate_run("{run}", checkpoint="last")'
        )
    return found or None


def _validations(run: Path) -> list[Validation]:
    """The held-out lines of the metrics, each with the training time that `timing.jsonl` has for its step."""
    minutes = {
        line["step"]: line["values"]["training_seconds"] / 60
        for line in read_lines(run / "timing.jsonl")
        if "training_seconds" in line["values"]
    }
    return [
        Validation(line["step"], minutes[line["step"]], line["values"]["loss"], line["values"].get(ACCURACY))
        for line in read_lines(run / "metrics.jsonl")
        if line["split"] == "valid" and line["step"] in minutes
    ]


def _speed(run: Path) -> float | None:
    """Frames per second of training over the whole run."""
    lines = [line["values"] for line in read_lines(run / "timing.jsonl") if line["split"] == "train"]
    seconds = sum(line["seconds"] for line in lines)
    return sum(line["frames_per_second"] * line["seconds"] for line in lines) / seconds if seconds else None


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
