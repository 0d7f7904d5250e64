"""Progress display: one live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@dataclasses.dataclass
class Stopwatch:
    """Frames per second and the share of time spent waiting for data, since the last `take`."""

    started: float = dataclasses.field(default_factory=time.perf_counter)
    frames: int = 0
    waited: float = 0.0
    """Seconds that the run has waited in all."""
    waited_before: float = 0.0

    def add(self, frames: int, waited: float) -> None:
        """Count one step of `frames` frames; `waited` seconds is the run's total so far."""
        self.frames += frames
        self.waited = waited

    def take(self) -> dict[str, float]:
        """Return the values and start over."""
        now = time.perf_counter()
        seconds, waited = now - self.started, self.waited - self.waited_before
        self.started, self.frames, frames, self.waited_before = now, 0, self.frames, self.waited
        return {"frames_per_second": frames / seconds, "data_wait": waited / seconds, "seconds": seconds}


class Display(Protocol):
    """Shows how a run goes."""

    def say(self, sentence: str) -> None:
        """One line that stays."""

    def step(self, step: int) -> None:
        """`step` optimiser steps are done."""

    def show(self, step: int, split: str, values: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Values of a log line or a validation."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainDisplay:
    """A line per log entry, for files and pipes."""

    def __init__(self, steps: int | None) -> None:
        self.total = "" if steps is None else f"/{steps}"

    def say(self, sentence: str) -> None:
        print(sentence, flush=True)

    def step(self, step: int) -> None:
        """Nothing: lines come with values."""

    def show(self, step: int, split: str, values: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """`step 20/100  train  loss 312.40  ...  1830 frames/s  data 2 %`."""
        self.say(f"step {step}{self.total}  {split}  {_values(values)}{_speed(timing)}")

    def close(self) -> None:
        """Nothing to undo."""


class LiveDisplay:
    """A progress bar with the newest values and the time left; sentences scroll above it."""

    def __init__(self, steps: int | None, done: int, console: Console) -> None:
        columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[values]}"))
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console)
        self._task: TaskID = self._progress.add_task("train", total=steps, completed=done, values="")
        self._progress.start()

    def say(self, sentence: str) -> None:
        self._progress.console.print(sentence, highlight=False, markup=False)

    def step(self, step: int) -> None:
        self._progress.update(self._task, completed=step)

    def show(self, step: int, split: str, values: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Training figures beside the bar; those of a validation as a line."""
        if split == "train":
            self._progress.update(self._task, values=_values(values) + _speed(timing))
        else:
            self.say(f"step {step}  {split}  {_values(values)}")

    def close(self) -> None:
        self._progress.stop()


def build_display(steps: int | None, done: int = 0) -> Display:
    """The live bar in a terminal, plain lines without one; `done` of `steps` (None: not known) lie behind already."""
    console = Console()
    return LiveDisplay(steps, done, console) if console.is_terminal else PlainDisplay(steps)


def _values(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.2f}" for name, value in values.items())


def _speed(timing: Mapping[str, float]) -> str:
    if not timing:
        return ""
    return f"  {timing['frames_per_second']:.0f} frames/s  data {timing['data_wait']:.0%}"
