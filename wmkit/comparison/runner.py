"""Runs cells, several at a time, each in a process of its own; stops them cleanly."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from wmkit.comparison.cell import Cell, CellFiles, Status
from wmkit.comparison.progress import Display
from wmkit.config import RunConfig
from wmkit.files import write_json
from wmkit.training.signals import StopSignal

PAUSE = 0.2
"""Seconds between two looks at the processes."""


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
        _signal(running, signal.SIGKILL)
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
