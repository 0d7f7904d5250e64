"""Runs cells, several at a time, each in a process of its own, shows how far they are, and stops them cleanly."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from wmkit.comparison.plan import Cell, CellFiles, Status
from wmkit.config import RunConfig
from wmkit.evaluation.predictors import IMAGINED
from wmkit.files import write_json
from wmkit.training.log import read_lines
from wmkit.training.optimiser import Budget
from wmkit.training.run_folder import FINISHED
from wmkit.training.runtime import StopSignal

PAUSE = 0.2
"""Seconds between two looks at the processes."""
LOOK = 1.0
"""Seconds between two looks into the files of the cells under way."""
TRAINING = 0.9
"""Share of a cell's work that is its training; the rest is its test."""

STYLE = {Status.DONE: "green", Status.FAILED: "red", Status.UNFINISHED: "yellow", Status.WAITING: "dim"}


@dataclasses.dataclass(frozen=True)
class Running:
    """A cell under way, as the display sees it."""

    config: RunConfig
    files: CellFiles
    before: float
    """Share of its work that was done before it was started: it may go on from a checkpoint."""


class Display:
    """One line for each ended cell with the time that the others need, and in a terminal a bar for all cells, by the
    share of their work, and one for each that is under way, with what it does and its newest figure.
    """

    def __init__(self, cells: Collection[Cell], done: int, console: Console | None = None) -> None:
        """cells: all of the comparison; done: how many of them have ended already."""
        self.total, self.count, self.before = len(cells), done, done
        self.console = console or Console()
        several = {name: len({getattr(cell, name) for cell in cells}) > 1 for name in ("world", "lr", "seed")}
        self.several = [name for name, more in several.items() if more]
        text = TextColumn("{task.description}", table_column=Column(no_wrap=True))
        figure = TextColumn("{task.fields[figure]}", table_column=Column(no_wrap=True, overflow="ellipsis"))
        columns = (text, BarColumn(12), TextColumn("{task.fields[phase]}"), figure)
        live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._progress = Progress(*columns, console=self.console, disable=not live)
        self._all = self._progress.add_task("all cells", total=1.0, phase="", figure="")
        self._tasks: dict[Cell, TaskID] = {}
        self._running: dict[Cell, Running] = {}
        self.begun = self.looked = time.monotonic()

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def say(self, sentence: str) -> None:
        """Print a line that stays above the bars."""
        self._progress.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def started(self, cell: Cell) -> None:
        """The cell is under way."""
        label = " ".join([cell.system, *(f"{name} {getattr(cell, name)}" for name in self.several)])
        self._tasks[cell] = self._progress.add_task(escape(label), total=1.0, phase="starting", figure="")

    def moved(self, cell: Cell, config: RunConfig, files: CellFiles) -> None:
        """Look how far the cells are, once in a while; only a terminal shows it."""
        if cell not in self._running:
            self._running[cell] = Running(config, files, progress_of(config, files)[0])
        if self._progress.disable or time.monotonic() < self.looked + LOOK:
            return
        self.looked = time.monotonic()
        for other, running in self._running.items():
            share, phase = progress_of(running.config, running.files)
            figure = escape(newest_figure(running.files))
            self._progress.update(self._tasks[other], completed=share, phase=phase, figure=figure)
        self._forecast()

    def ended(self, cell: Cell, files: CellFiles, status: Status) -> None:
        """The cell has ended."""
        self._progress.remove_task(self._tasks.pop(cell))
        self._running.pop(cell, None)
        if status is not Status.UNFINISHED:
            self.count += 1
        left = self._forecast()
        error = files.record().get("error")
        text = f"[{STYLE[status]}]{status}[/] {escape(str(cell))}" + (f": {escape(error)}" if error else "")
        text += f" ({left})" if left else ""
        self._progress.console.print(rf"\[{self.count}/{self.total}] {text}", highlight=False, soft_wrap=True)

    def _forecast(self) -> str:
        """`about 1 h 12 min left`, at the pace since the start; the bar of all cells is brought up to date.

        What was done before the start says nothing about the pace; nothing is said before a hundredth is done.
        """
        shares = [(progress_of(one.config, one.files)[0], one.before) for one in self._running.values()]
        done = self.count + sum(share for share, _ in shares)
        since = self.count - self.before + sum(share - before for share, before in shares)
        left, text = self.total - done, ""
        if left > 0 and since > 0.01 * (since + left):
            text = f"about {duration((time.monotonic() - self.begun) * left / since)} left"
        share = done / self.total
        self._progress.update(self._all, completed=share, phase=f"{share:.0%}", figure=text)
        return text


def progress_of(config: RunConfig, files: CellFiles) -> tuple[float, str]:
    """Share of its work that a cell under way has done, and what it does: `starting`, `training 43%`, `evaluating`.

    Its training counts by the newest line of timing; of its test, which is short, nothing is known.
    """
    if (files.run / FINISHED).exists():
        return TRAINING, "evaluating"
    budget, step = Budget(config.train, config.data.workers), 0
    for line in read_lines(files.run / "timing.jsonl"):
        if line["split"] == "train":
            step = line["step"]
            budget.seconds += line["values"]["seconds"]
    share = budget.share(step)
    return TRAINING * share, f"training {share:.0%}" if step else "starting"


def newest_figure(files: CellFiles) -> str:
    """Of the last validation the first measure of what was imagined, else its loss; nothing before the first one."""
    values = [line["values"] for line in read_lines(files.run / "metrics.jsonl") if line["split"] == "valid"]
    if not values:
        return ""
    name = next((name for name in values[-1] if name.endswith(f"_{IMAGINED}")), "loss")
    value = values[-1][name]
    return f"{name} {'-' if value is None else f'{value:.4g}'}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `1 h 12 min`."""
    minutes = round(seconds / 60)
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell under way."""

    cell: Cell
    files: CellFiles
    config: RunConfig
    process: subprocess.Popen[bytes]


def run_cells(
    folder: Path,
    configs: Mapping[Cell, RunConfig],
    *,
    jobs: int,
    display: Display,
    after_each: Callable[[], object] = lambda: None,
) -> int | None:
    """Run the cells of `configs` in order, `jobs` at a time; returns the signal that stopped it, or None.

    `after_each` is called whenever a cell has ended. A cell that fails is recorded and the others go on. The first
    SIGINT or SIGTERM lets every cell finish its step and save; a second one ends them at once.
    """
    queue, running, stopping = list(configs.items()), list[Job](), False
    try:
        with StopSignal() as stop:
            while running or (queue and not stopping):
                if stop.number is not None and not stopping:
                    stopping = True
                    display.say("Stopping: the cells under way finish their step and save.")
                    _signal(running, signal.SIGTERM)
                while queue and not stopping and len(running) < jobs:
                    running.append(_start(folder, *queue.pop(0)))
                    display.started(running[-1].cell)
                time.sleep(PAUSE)
                for job in running:
                    display.moved(job.cell, job.config, job.files)
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    display.ended(job.cell, job.files, _outcome(job))
                    after_each()
        return stop.number
    finally:
        for job in running:
            job.process.kill()
        for job in running:
            job.process.communicate()  # waits, and closes its standard input


def _start(folder: Path, cell: Cell, config: RunConfig) -> Job:
    """Start one cell, in a session of its own: a Ctrl-C of the terminal reaches it through this process alone."""
    files = CellFiles.of(folder, cell)
    files.run.parent.mkdir(parents=True, exist_ok=True)
    write_json(files.config, config.to_dict())
    files.write(status=Status.UNFINISHED, error=None)
    threads = {"OMP_NUM_THREADS": str(config.train.threads)} if config.train.threads else {}
    with files.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "wmkit.comparison.worker", str(files.config)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=os.environ | threads,
            start_new_session=True,
        )
    return Job(cell, files, config, process)


def _outcome(job: Job) -> Status:
    """How the cell ended; a death that it could not record itself is recorded here."""
    code = job.process.returncode
    assert job.process.stdin is not None, "asked for when the process was started"
    job.process.stdin.close()
    asked = (signal.SIGTERM, signal.SIGINT)
    if code in [-number for number in asked] + [128 + number for number in asked]:
        return Status.UNFINISHED
    if code < 0:
        name = signal.Signals(-code).name
        job.files.write(status=Status.FAILED, error=f"killed by {name}; did the machine run out of memory?")
    elif code and job.files.status() is not Status.FAILED:
        job.files.write(status=Status.FAILED, error=f"ended with status {code}; see {job.files.log.name}")
    return job.files.status()


def _signal(running: list[Job], number: signal.Signals) -> None:
    for job in running:
        job.process.send_signal(number)
