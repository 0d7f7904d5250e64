"""Diagnosing a backbone: every task and seed a training of its own, kept as it ends, so that the same call goes on."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wmkit.checks import check_integer
from wmkit.diagnostics.backbones import WIDTH, Subject, find_subject
from wmkit.diagnostics.base import MULTIPLES, Task, all_tasks, find_tasks
from wmkit.diagnostics.card import Card, Level, Result, unit_of
from wmkit.diagnostics.costs import TRIES, measure_costs
from wmkit.diagnostics.scores import Scores, chance_of, summarise
from wmkit.diagnostics.training import ROWS, held_out, train
from wmkit.files import file_name, hold_lock, user_folder, write_json
from wmkit.machine import processor
from wmkit.training.short import is_short

SEEDS = 3
QUICK_SEEDS = 1
QUICK = 0.4
"""Share of the steps with `quick`."""
VERSION = 2
"""Of what a record means; one of another version is not gone on from."""


@torch.random.fork_rng(devices=[])  # weights come from the global generator, which is the caller's
def diagnose(
    backbone: Any,
    *,
    tasks: Sequence[str] | None = None,
    seeds: int | None = None,
    quick: bool = False,
    width: int = WIDTH,
    folder: str | Path | None = None,
    options: Sequence[str] = (),
    console: Console | None = None,
) -> Card:
    """The memory card of a backbone: what it keeps in sequence tasks, for how long, at what cost. No images.

        card = wmkit.diagnose("gru", quick=True)                # or a class, or a config of a registered one
        print(card.table().markdown())

    Each task trains a linear map in, the backbone, and a linear map out, once per seed, and judges them on held-out
    sequences of 1, 2 and 4 times the training length. tasks: names (default: all); seeds: how many (3; quick: 1);
    quick: 40 % of the optimiser steps; width: of what enters the backbone; options: `key=value` of a registered
    backbone's config; folder: records are written there as they come, and the same call goes on from them; console:
    shows a bar with the time left.

    Raises `ValueError` for what is no backbone or cannot be built, for unknown tasks, and for a folder that holds
    records of another backbone, width or number of steps, of other source code of the backbone or a task, or that
    another process writes to.
    """
    chosen = find_tasks(list(all_tasks()) if tasks is None else tasks)
    subject = find_subject(backbone, options, width)
    count = check_integer("seeds", (QUICK_SEEDS if quick else SEEDS) if seeds is None else seeds, 1)
    effort, rows, tries = QUICK if quick else 1.0, ROWS, TRIES
    if is_short():
        effort, rows, tries = 0.002, 20, 1
    records = Records(None if folder is None else user_folder(folder), subject, effort)
    jobs = [(seed, task) for seed in range(count) for task in chosen]  # a part of them already is a card
    budget = {task.name: max(1, math.ceil(effort * task.steps)) for task in chosen}
    with records.held(), _bar(console) as progress:
        waiting = [(seed, task) for seed, task in jobs if records.read(task, seed) is None]
        bar = progress.add_task("", total=sum(budget[task.name] for _, task in waiting))
        if records.costs is None:
            torch.manual_seed(0)
            records.costs = measure_costs(subject.make(), tries).to_json()
        done = 0
        for seed, task in waiting:
            progress.update(bar, description=f"{subject.name}: {task.title}, seed {seed}")
            trained = train(
                task,
                subject.make,
                seed,
                budget[task.name],
                rows,
                lambda taken: progress.update(bar, completed=done + taken),  # noqa: B023
            )
            done += budget[task.name]
            progress.update(bar, completed=done)
            records.write(
                task,
                seed,
                {
                    "steps": trained.steps,
                    "solved": trained.solved,
                    "seconds": trained.seconds,
                    "scores": {multiple: scores.to_json() for multiple, scores in trained.scores.items()},
                    "untrained": trained.untrained
                    and {multiple: scores.to_json() for multiple, scores in trained.untrained.items()},
                },
            )
        results = [_result(task, [(seed, records.read(task, seed)) for seed in range(count)], rows) for task in chosen]
        card = Card(
            backbone=subject.name,
            origin=subject.origin,
            numbers=subject.numbers,
            effort=effort,
            width=records.settings["width"],
            machine=records.costs["machine"],
            costs=records.costs,
            results=results,
        )
        records.close(card)
    return card


def source_hash(cls: type) -> str | None:
    """Of the source of a class and of those it is made from, but for PyTorch's; None where it has no file."""
    try:
        sources = [
            inspect.getsource(one)
            for one in cls.__mro__
            if one.__module__.partition(".")[0] not in ("torch", "builtins", "abc", "typing")
        ]
    except OSError:
        return None
    return hashlib.sha256("".join(sources).encode()).hexdigest()[:16]


class Records:
    """What was measured of a subject so far: in a folder, or in memory alone."""

    def __init__(self, folder: Path | None, subject: Subject, effort: float) -> None:
        self.folder = folder
        backbone = subject.make()
        self.settings: dict[str, Any] = {
            "version": VERSION,
            "origin": subject.origin,
            "numbers": subject.numbers,
            "width": backbone.input_dim,
            "effort": effort,
            "source": source_hash(type(backbone)),
        }
        self._kept: dict[str, Any] = {}
        self.costs: dict[str, Any] | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A block in which no other process writes here; raises `ValueError` for a folder of something else."""
        if self.folder is None:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = hold_lock(self.folder / ".lock")
        except Timeout:
            raise ValueError(f"{self.folder}: another process is writing to it; wait for it or name another") from None
        try:
            path = self.folder / "settings.json"
            if path.exists():
                found = json.loads(path.read_text(encoding="utf-8"))
                wanted = json.loads(json.dumps(self.settings))
                unlike = [key for key in wanted if found.get(key) != wanted[key]]
                if unlike:
                    key = unlike[0]
                    raise ValueError(
                        f"{self.folder} holds records of another {key}: {found.get(key)} there, {wanted[key]} now; "
                        "name another folder"
                    )
            else:
                write_json(path, self.settings)
            costs = self.folder / "costs.json"
            if costs.exists():
                known = json.loads(costs.read_text(encoding="utf-8"))
                if (known["machine"], known["threads"]) == (processor(), torch.get_num_threads()):
                    self.costs = known  # else they are measured again
            yield
        finally:
            lock.release()

    def read(self, task: Task, seed: int) -> Any:
        """The record of a training, or None; raises `ValueError` for a file that is none, and of another task."""
        key = f"{file_name(task.name)}-{seed}"
        if key not in self._kept and self.folder is not None and (path := self.folder / f"{key}.json").exists():
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{path}: expected the record of a training, got {error}; delete it") from error
            if record["source"] != source_hash(type(task)):
                raise ValueError(f"{path}: the code of task {task.name} has changed since; name another folder")
            self._kept[key] = record
        return self._kept.get(key)

    def write(self, task: Task, seed: int, record: dict[str, Any]) -> None:
        """Keep the record of a training, and the costs."""
        key = f"{file_name(task.name)}-{seed}"
        record = record | {"source": source_hash(type(task))}
        self._kept[key] = json.loads(json.dumps(record))
        if self.folder is not None:
            write_json(self.folder / "costs.json", self.costs)
            write_json(self.folder / f"{key}.json", record)

    def close(self, card: Card) -> None:
        """Write the card."""
        if self.folder is not None:
            write_json(self.folder / "card.json", card.to_json())


def _result(task: Task, records: Sequence[tuple[int, Any]], rows: int) -> Result:
    """The scores over all seeds; rows: held-out sequences that were asked for."""

    def over_seeds(which: str) -> dict[int, tuple[Any, Any]]:
        return {
            multiple: summarise(
                task,
                [Scores.from_json(record[which][str(multiple)]) for _, record in records],
                multiple * task.length,
            )
            for multiple in MULTIPLES
        }

    found = over_seeds("scores")
    chance, sequences = {}, {}
    shortest: dict[int, Level] = {}
    for multiple, (_, levels) in found.items():
        asked = np.array(records[0][1]["scores"][str(multiple)]["asked"])  # (N, L)
        counts = np.isin(list(levels), task.judged(multiple * task.length))
        sequences[multiple] = int((asked[:, counts] > 0).any(1).sum())
        chance[multiple], chances = chance_of(task, held_out(task, multiple, rows))
        for level, score in levels.items():
            shortest.setdefault(level, Level(level, multiple, score, chances[level]))
    return Result(
        task=task.name,
        title=task.title,
        level_name=task.level_name,
        unit=unit_of(task),
        chance=chance,
        best=float(len(task.levels)) if task.capacity else 1.0,
        length=task.length,
        scores={multiple: score for multiple, (score, _) in found.items()},
        sequences=sequences,
        levels=[shortest[level] for level in sorted(shortest)],
        seeds=[seed for seed, _ in records],
        steps=[record["steps"] for _, record in records],
        solved=[record["solved"] for _, record in records],
        untrained={m: score for m, (score, _) in over_seeds("untrained").items()} if task.capacity else None,
    )


def _bar(console: Console | None) -> Progress:
    """A bar of all steps that are left, with the time that they take; nothing is shown without a terminal."""
    live = console is not None and console.is_terminal and not console.is_dumb_terminal
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not live, transient=True)
