"""Runs cells, several at a time, each in a process of its own, shows how far they are, and stops them cleanly."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from wmkit.comparison.plan import Cell, CellFiles, Status
from wmkit.config import RunConfig
from wmkit.files import write_json
from wmkit.training.log import read_lines
from wmkit.training.optimiser import Budget
from wmkit.training.runtime import StopSignal

PAUSE = 0.2
"""Seconds between two looks at the processes."""

STYLE = {Status.DONE: "green", Status.FAILED: "red", Status.UNFINISHED: "yellow", Status.WAITING: "dim"}


class Display:
    """One line for each ended cell, and in a terminal a bar for all cells and one for each that is under way."""

    def __init__(self, total: int, done: int, console: Console | None = None) -> None:
        """done: how many of the `total` cells have ended already."""
        self.total, self.count = total, done
        self.console = console or Console()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._all = self._progress.add_task("all cells", total=total, completed=done)
        self._tasks: dict[Cell, TaskID] = {}

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
        self._tasks[cell] = self._progress.add_task(escape(str(cell)), total=1.0)

    def moved(self, cell: Cell, config: RunConfig, files: CellFiles) -> None:
        """Look how far the cell is; only a terminal shows it."""
        if self.console.is_terminal:
            self._progress.update(self._tasks[cell], completed=share_spent(config, files))

    def ended(self, cell: Cell, files: CellFiles, status: Status) -> None:
        """The cell has ended."""
        self._progress.remove_task(self._tasks.pop(cell))
        if status is not Status.UNFINISHED:
            self.count += 1
            self._progress.update(self._all, completed=self.count)
        error = files.record().get("error")
        text = f"[{STYLE[status]}]{status}[/] {escape(str(cell))}" + (f": {escape(error)}" if error else "")
        self._progress.console.print(rf"\[{self.count}/{self.total}] {text}", highlight=False, soft_wrap=True)


def share_spent(config: RunConfig, files: CellFiles) -> float:
    """Share of its budget that a cell under way has spent, by its newest line of timing."""
    budget, step = Budget(config.train, config.data.workers), 0
    for line in read_lines(files.run / "timing.jsonl"):
        if line["split"] == "train":
            step = line["step"]
            budget.seconds += line["values"]["seconds"]
    return budget.share(step)


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
