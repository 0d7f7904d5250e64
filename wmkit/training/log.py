"""What a run writes while it trains: JSON lines, TensorBoard, and a display on the terminal or in plain lines."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from wmkit.files import to_json, write_text
from wmkit.training.run_folder import RunFolder

SHOWN = ("loss", "image", "kl", "reward")
"""What the display shows of a loss's terms; everything is in the files."""


class RunLog:
    """One writer for the process that reports; the others make none.

    What a config and a seed determine goes to `metrics.jsonl`, what the clock says to `timing.jsonl`, both to
    TensorBoard. Lines of steps after `last_step` are dropped first: a resumed run writes them again.
    """

    def __init__(self, folder: RunFolder, steps: int | None, last_step: int) -> None:
        self.metrics = JsonLines(folder.metrics, last_step)
        self.timing = JsonLines(folder.timing, last_step)
        self.display = build_display(steps, last_step)
        self.tensorboard = open_tensorboard(folder, last_step, self.display)
        self.watch = Stopwatch()

    def step(self, step: int, frames: int, waited: float) -> None:
        """`step` steps are done; the last one read `frames` frames; the run waited `waited` seconds for data in all."""
        self.watch.add(frames, waited)
        self.display.step(step)

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Write means since the last line, with the speed since then."""
        timing = self.watch.take()
        self.timing.write(step, "train", timing)
        self._scalars(step, "timing", timing)
        self.metrics.write(step, "train", values)
        self._scalars(step, "train", values)
        self.display.show(step, "train", _shown(values), timing)

    def validation(self, step: int, losses: Mapping[str, float], measured: Mapping[str, float], seconds: float) -> None:
        """Write what held-out batches gave after `seconds` of training; the time they took is not training time."""
        values = {**losses, **measured}
        self.timing.write(step, "valid", {"training_seconds": seconds})
        self.metrics.write(step, "valid", values)
        self._scalars(step, "valid", values)
        self.display.show(step, "valid", {**_shown(losses), **measured}, {})
        if not math.isfinite(losses.get("loss", 0.0)):
            self.display.say(
                f"step {step}: the validation loss is not finite (null in {self.metrics.path.name}), so that this step "
                "cannot be the best; try a smaller train.lr"
            )
        self.watch.take()

    def sync(self) -> None:
        """Have the disk hold the metrics: no checkpoint may be newer than they are."""
        self.metrics.sync()

    def close(self) -> None:
        """Close every file and restore the terminal."""
        for sink in (self.display, self.metrics, self.timing, self.tensorboard):
            sink.close()

    def _scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.tensorboard.add_scalar(f"{split}/{name}", value, step)


class NoTensorBoard:
    """Stands for its writer where it is not installed: takes every call and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **options: None


def open_tensorboard(folder: RunFolder, last_step: int, display: Display) -> Any:
    """TensorBoard's writer, which cuts the curves of a resumed run back to its checkpoint.

    Where it is not installed, and in a folder whose name is no UTF-8, which it does not open, a sentence says so.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder.tensorboard), purge_step=last_step + 1 if last_step else None)
    except ImportError as error:
        reason = f"{error} (pip install tensorboard)"
    except UnicodeEncodeError:
        reason = "it opens no folder whose name is not UTF-8"
    display.say(f"No TensorBoard: {reason}. Its curves are in {folder.metrics.name} too.")
    return NoTensorBoard()


def _shown(values: Mapping[str, float]) -> dict[str, float]:
    return {name: values[name] for name in SHOWN if name in values}


class JsonLines:
    """One JSON object per line: {"step": 10, "split": "train", "values": {...}}; null is a value that is not finite."""

    def __init__(self, path: Path, last_step: int = 0) -> None:
        """Append to `path`, after dropping the lines of steps beyond `last_step`: those will be trained again."""
        self.path = path
        earlier = [record for record in read_lines(path) if record["step"] <= last_step]
        write_text(path, "".join(to_json(record) + "\n" for record in earlier))
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Append one line and hand it to the operating system."""
        self._file.write(to_json({"step": step, "split": split, "values": dict(values)}) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Have the disk hold every line."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file; a last line that a crash cut short is passed over, any other is an error."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is not JSON: {line!r:.80}") from error


class RunningMean:
    """Means of named scalars since the last `take`; sums stay on `device`, so adding waits for nothing."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one step's scalars."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.count += 1

    def take(self) -> dict[str, float]:
        """Return the means and start over."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """Sums and count, for a checkpoint between two log lines."""
        return {"sums": {name: value.cpu() for name, value in self.sums.items()}, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.count = state["count"]


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
        self.say(f"step {step}{self.total}  {split}  {_figures(values, timing)}")

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
            self._progress.update(self._task, values=_figures(values, timing))
        else:
            self.say(f"step {step}  {split}  {_figures(values, timing)}")

    def close(self) -> None:
        self._progress.stop()


def build_display(steps: int | None, done: int = 0) -> Display:
    """The live bar in a terminal, plain lines without one; `done` of `steps` (None: not known) lie behind already."""
    console = Console()
    return LiveDisplay(steps, done, console) if console.is_terminal else PlainDisplay(steps)


def _figures(values: Mapping[str, float], timing: Mapping[str, float]) -> str:
    """`loss 312.40  kl 2.10  1830 frames/s  data 2%`, without the speed where no timing is given."""
    shown = [f"{name} {value:.2f}" for name, value in values.items()]
    if timing:
        shown.append(f"{timing['frames_per_second']:.0f} frames/s  data {timing['data_wait']:.0%}")
    return "  ".join(shown)
