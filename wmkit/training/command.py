"""The command line that every recipe shares: compose, choose a folder, train, evaluate; sweeps with `-m`.

Exit status: 0 done; 1 the machine refused (disk, memory); 2 what was asked for cannot be; 143, 130 ended by a signal.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate.utils import broadcast_object_list
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from wmkit.config import RunConfig
from wmkit.data import WorkerError
from wmkit.pipe import ends_with_reader
from wmkit.training.batches import settle
from wmkit.training.help import HELP_WORDS, describe_keys, help_topics, recipe_help
from wmkit.training.loop import Summary, Validate, train
from wmkit.training.overrides import compose, expand_sweep
from wmkit.training.run_folder import RunFolder, choose_folder
from wmkit.training.runtime import StopSignal, processes_of
from wmkit.training.short import SENTENCE, is_short

USAGE = """usage: python {script} [-m] [key=value ...]

  -m, --multirun   values separated by commas make one run each, one after another, each in a process of its own
  -h, --help       this text; of one section or key: --help train, --help data.length
"""
SWEEP = "WMKIT_SWEEP"
"""Environment variable of a sweep's runs: a file to which each adds its folder."""


@ends_with_reader
def run_recipe(
    defaults: RunConfig,
    after: Callable[[Path], object],
    overrides: Sequence[str] | None = None,
    *,
    validation: Callable[[RunConfig], Validate] | None = None,
    page: str | None = None,
) -> int:
    """Train the run that the command line asks for, then call `after(run folder)`; returns the exit status.

    validation: makes of a config what `train` calls at each validation, such as `HeldOutValidation` of
    `wmkit.evaluation`. page: what the recipe says of itself, its `__doc__`, with which `--help` opens.

    An error that the user can mend (`ValueError`), and a machine that refuses, end in one panel without a traceback.
    """
    overrides = list(sys.argv[1:] if overrides is None else overrides)
    try:
        if HELP_WORDS & set(overrides):
            if topics := help_topics(overrides):
                config = compose(defaults, [word for word in overrides if "=" in word])
                print("\n".join(describe_keys(config, topic=topic) for topic in topics))
            else:
                print(recipe_help(page, USAGE.format(script=sys.argv[0]), defaults))
            return 0
        if {"-m", "--multirun"} & set(overrides):
            return _sweep([word for word in overrides if word not in ("-m", "--multirun")])
        return _run(compose(defaults, overrides), after, validation)
    except ValueError as error:
        return _refuse(error, status=2)
    except BrokenPipeError:  # no fault of the machine: nobody reads the output any more
        raise
    except (OSError, MemoryError, WorkerError) as error:
        return _refuse(error, status=1)
    except KeyboardInterrupt:  # while it starts, or the second one: the first is waited for
        print("Stopped at once; resume=true goes on from the last checkpoint, if there is one.", file=sys.stderr)
        return 130


def train_in_folder(config: RunConfig, folder: str | Path | RunFolder, validate: Validate | None = None) -> Summary:
    """Open `folder`, train, mark it finished if the last step was reached, release it.

    Under `torchrun` every process calls this; the first one alone holds and writes the folder.
    Raises `ValueError` as `train` does, and for a folder that is there and holds no run.
    """
    if not isinstance(config, RunConfig):
        raise ValueError(f"train: expected a RunConfig first, then a folder, got {config!r}")
    if isinstance(validate, type):
        raise ValueError(f"validate: expected a function of a model, got a class: give {validate.__name__}(config)")
    if not isinstance(folder, RunFolder):
        if not str(folder).strip():
            raise ValueError("train: expected a folder for the run, got nothing")
        named = dataclasses.replace(config, run_dir=str(folder), resume=True)
        folder, _ = choose_folder(named, recipe="")
    main = processes_of(config.train).is_main_process
    if main:
        folder.open()
    try:
        summary = train(config, folder, validate)
        if main and summary.stopped_by is None:
            folder.finish(dataclasses.asdict(summary))
        return summary
    finally:
        folder.close()


def _run(config: RunConfig, after: Callable[[Path], object], validation: Callable[[RunConfig], Validate] | None) -> int:
    config, notes = settle(config)
    validate = None if validation is None else validation(config)
    main = processes_of(config.train).is_main_process
    folder, sentence = _choose_together(config)
    in_sweep = os.environ.get(SWEEP)
    if main:
        print(*notes, *([SENTENCE] if is_short() else []), sentence, sep="\n", flush=True)
        if in_sweep:
            with open(in_sweep, "a", encoding="utf-8") as file:
                file.write(f"{folder.path}\n")
    summary = train_in_folder(config, folder, validate)
    if summary.stopped_by is not None:
        if main:
            print(f"Stopped after step {summary.step}; resume=true continues it.", flush=True)
        return 128 + summary.stopped_by
    if main:
        run, all_runs = (shlex.quote(str(path)) for path in (folder.path, folder.path.parent))
        try:
            after(folder.path)
        except KeyboardInterrupt:
            print(f"Stopped in the evaluation. The run is trained: wmkit evaluate {run} measures it.", file=sys.stderr)
            return 130
        if not in_sweep:
            print(f"Next:\n  wmkit imagine {run}\n  tensorboard --logdir {all_runs}", flush=True)
    return 0


def _choose_together(config: RunConfig) -> tuple[RunFolder, str]:
    """The first process chooses the folder and tells the others, who would see it taken."""
    processes = processes_of(config.train)
    choice: list[tuple[str, str]] = [("", "")]
    if processes.is_main_process:
        folder, sentence = choose_folder(config, recipe=Path(sys.argv[0]).stem)
        choice = [(str(folder.path), sentence)]
    if processes.num_processes > 1:
        broadcast_object_list(choice)
    path, sentence = choice[0]
    return RunFolder(Path(path)), sentence


def _sweep(overrides: Sequence[str]) -> int:
    """One process per combination, at the end a table of all; a job that fails does not keep the others from running.

    Ctrl-C reaches the job too, which saves and ends; none is started after a signal.
    """
    failed = []
    jobs = expand_sweep(overrides)
    with StopSignal() as stop, tempfile.TemporaryDirectory() as place:
        note = Path(place) / "folders"
        note.touch()
        for number, job in enumerate(jobs, start=1):
            print(f"[{number}/{len(jobs)}] {' '.join(job)}", flush=True)
            command = [sys.executable, sys.argv[0], *job]
            if subprocess.run(command, check=False, env=os.environ | {SWEEP: str(note)}).returncode:
                failed.append(" ".join(job))
            if stop.number is not None:
                print(f"The sweep was stopped in run {number} of {len(jobs)}.", file=sys.stderr)
                return 128 + stop.number
        if folders := note.read_text(encoding="utf-8").splitlines():
            print("All of them again: wmkit report " + shlex.join(folders), flush=True)
            subprocess.run([sys.executable, "-m", "wmkit.cli", "report", *folders], check=False)
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def _refuse(error: BaseException, status: int) -> int:
    """Print the error in a panel that also says where it was raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    title = "cannot do that" if status == 2 else "stopped"
    message = str(error)
    if isinstance(error, OSError):  # without the number, with the file if the system named one
        message = ": ".join(str(part) for part in (error.strerror, error.filename) if part) or message
    panel = Panel(
        Text(message), title=title, subtitle=f"{Path(where.filename).name}:{where.lineno}", border_style="red"
    )
    Console(stderr=True).print(panel)
    return status
