"""The plan of a comparison: systems x worlds x learning rates x seeds, the config of each cell, and its files.

plan.json               what `Plan.save` writes
cells/NAME.json         the whole config of a cell, written before its run starts
cells/NAME.log          what the run printed
cells/NAME/             the run folder, and in it
cells/NAME/cell.json    {status, error, tested, probed, and what it cost}
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from wmkit.checks import closest
from wmkit.config import RunConfig, differences, load_config, rule_of
from wmkit.data.worlds import World, describe_world
from wmkit.files import file_name, write_json
from wmkit.registry import list_backbones
from wmkit.training.batches import archives_of, settle
from wmkit.training.overrides import compose, hydra_value, world_overrides
from wmkit.training.run_folder import CONFIG, check_local_data

PLAN = "plan.json"
CELL = "cell.json"
LR = "train.lr"


class Status(StrEnum):
    """How far a cell has come."""

    WAITING = "waiting"
    UNFINISHED = "unfinished"
    DONE = "done"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class System:
    """What is compared: a label and the overrides of the config behind it."""

    label: str
    overrides: tuple[str, ...]
    """`("backbone=gru", "data.sampler=persistent")`; they win over the overrides that all systems share."""
    lr: float | None = None
    """Its learning rate, where it has one of its own; None: those of the grid."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+", self.label):
            raise ValueError(f"The label of a system consists of letters, digits and _.+-, got {self.label!r}")


def find_system(label: str, defined: Mapping[str, Sequence[str]]) -> System:
    """The system whose overrides `defined` has under `label`, else the registered backbone of that name.

    An override `train.lr=` gives it a learning rate of its own. Raises `ValueError` with the closest match and all
    names for an unknown one.
    """
    if label in defined:
        keys = [override.partition("=")[0].lstrip("+") for override in defined[label]]
        own = [override.partition("=")[2] for override, key in zip(defined[label], keys, strict=True) if key == LR]
        lr = learning_rate(f"system.{label}: {LR}", own[-1]) if own else None
        return System(label, tuple(o for o, key in zip(defined[label], keys, strict=True) if key != LR), lr)
    if label in list_backbones("backbone"):
        return System(label, (f"backbone={hydra_value(label)}",))
    known = sorted({*defined, *list_backbones("backbone")})
    raise ValueError(
        f"Unknown system {label!r}.{closest(label, known)} Known: {', '.join(known)}. "
        f'Or define it: "system.{label}=backbone=s4 backbone.layers=4".'
    )


def learning_rate(key: str, text: str) -> float:
    """A positive number; raises `ValueError` naming `key` for anything else."""
    try:
        rate = float(text.strip("'\""))
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ValueError(f"{key}: expected one positive number, got {text}")
    return rate


@dataclasses.dataclass(frozen=True)
class PlannedWorld:
    """A world of the grid."""

    name: str
    """Its label, in which settings that are not the usual ones show."""
    overrides: tuple[str, ...]
    """Of the config, that choose it: `("world=distracting_memory", "world.width=16")`."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    """Its family and all of its settings, as plain values; they say what differs between the worlds of a plan."""

    @classmethod
    def of(cls, world: World, name: str | None = None) -> PlannedWorld:
        """The entry of the grid for `world`; name: that of the archive that stands for it."""
        return cls(name or world.name, tuple(world_overrides(world)), describe_world(world))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    system: str
    world: str
    lr: float
    seed: int

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return file_name(f"{self.world}-{self.system}-lr{self.lr:g}-seed{self.seed}")

    def __str__(self) -> str:
        return f"{self.system} on {self.world}, lr {self.lr:g}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class CellFiles:
    """Where the files of a cell are in the folder of its comparison."""

    run: Path
    """The run folder."""

    @classmethod
    def of(cls, comparison: Path, cell: Cell) -> CellFiles:
        """The files of `cell` in the folder `comparison`."""
        return cls(comparison / "cells" / cell.name)

    @property
    def config(self) -> Path:
        """The config that the run is started with."""
        return self.run.with_name(f"{self.run.name}.json")

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.run.with_name(f"{self.run.name}.log")

    def record(self) -> dict[str, Any]:
        """The content of `cell.json`; empty where there is none."""
        path = self.run / CELL
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def write(self, **values: Any) -> None:
        """Change some entries of `cell.json`."""
        self.run.mkdir(parents=True, exist_ok=True)
        write_json(self.run / CELL, self.record() | values)

    def status(self) -> Status:
        """How far the cell has come, as far as its files say."""
        return Status(self.record().get("status", Status.WAITING))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """systems x worlds x seeds x learning rates, the same budget for each."""

    systems: tuple[System, ...]
    worlds: tuple[PlannedWorld, ...]
    seeds: tuple[int, ...]
    lrs: tuple[float, ...]
    minutes: float | None
    """Minutes of training for each cell; None: `steps` are the budget."""
    steps: int | None
    overrides: tuple[str, ...] = ()
    """Of the command line, shared by every cell."""
    probing: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    """By world what its runs are probed for, as `wmkit.probing.Plan.of` reads it; empty: they are not probed."""
    command: str = ""
    """What was typed."""

    def __post_init__(self) -> None:
        for name in ("systems", "worlds", "seeds", "lrs"):
            values = [getattr(value, "name", value) for value in getattr(self, name)]
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected at least one and none twice, got {values}")
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("The budget is either minutes=... or steps=..., one of the two")
        names = [cell.name.casefold() for cell in self.cells()]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"lrs: two runs would share the folder {twice[0]}; rates are told apart by six digits, and labels by "
                "more than capitals, which are one on many disks"
            )

    def cells(self) -> list[Cell]:
        """Every cell; all of the first seed come first, so that a part of the comparison already compares."""
        rates = max((self.rates(system) for system in self.systems), key=len)
        grid = itertools.product(self.seeds, self.worlds, range(len(rates)), self.systems)
        return [
            Cell(system.label, world.name, self.rates(system)[number], seed)
            for seed, world, number, system in grid
            if number < len(self.rates(system))
        ]

    def rates(self, system: System) -> tuple[float, ...]:
        """The learning rates at which a system runs: its own, or the grid's."""
        return self.lrs if system.lr is None else (system.lr,)

    def config(self, cell: Cell, defaults: RunConfig) -> RunConfig:
        """The config of one cell, settled; raises `ValueError`, naming the system, for overrides that do not fit it."""
        system = next(system for system in self.systems if system.label == cell.system)
        world = next(world for world in self.worlds if world.name == cell.world)
        own = [*world.overrides, f"seed={cell.seed}", f"{LR}={cell.lr}"]
        steps = ["train.minutes=null", f"train.steps={self.steps}"]  # minutes would win over steps
        budget = [f"train.minutes={self.minutes}"] if self.steps is None else steps
        try:
            config = compose(defaults, [*self.overrides, *system.overrides, *own, *budget])
            if not any(override.startswith(("eval.horizon=", "eval.context=")) for override in self.overrides):
                query = config.world.episode_length - config.world.context_length  # all of it
                if archives_of(config.data).test_source is not None:
                    query = None
                config = dataclasses.replace(config, eval=dataclasses.replace(config.eval, horizon=query))
            config, _ = settle(config)
        except ValueError as error:
            raise ValueError(f"{cell.system} on {cell.world}: {error}") from error
        return config

    def sizes(self) -> tuple[str, dict[str, float]] | None:
        """The one setting in which the worlds differ, and its value in each of them, smallest first.

        None where there is one world, where they differ in more than one setting, or in one that is no number.
        """
        first, *others = self.worlds
        keys = {key for world in others for key in differences(dict(first.settings), dict(world.settings))}
        if len(keys) != 1:
            return None
        (key,) = keys
        values: dict[str, Any] = {world.name: world.settings.get(key) for world in self.worlds}
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values()):
            return None
        return key, dict(sorted(values.items(), key=lambda item: item[1]))

    def budget(self) -> str:
        """The budget in words."""
        return f"{self.steps:,} steps" if self.minutes is None else f"{self.minutes:g} minutes of training"

    def save(self, folder: Path) -> None:
        """Write `plan.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, dataclasses.asdict(self))


def load_plan(folder: Path) -> Plan:
    """What `save` wrote; raises `ValueError` for a folder that holds no comparison."""
    if not (folder / PLAN).is_file():
        raise ValueError(f"{folder} has no {PLAN}: expected the out= folder of a comparison")
    try:
        values: dict[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        if "words" in values:
            raise ValueError(
                f"{folder / PLAN} was written by an older wmkit, whose worlds were names alone: run its command again, "
                "with another out= and with the settings of a world beside its name, "
                "as in worlds=distracting_memory world.width=16 world.tile=4. "
                f"The command was: {values['command']}"
            )
        systems = tuple(
            System(system["label"], tuple(system["overrides"]), system["lr"]) for system in values.pop("systems")
        )
        worlds = tuple(
            PlannedWorld(world["name"], tuple(world["overrides"]), world["settings"]) for world in values.pop("worlds")
        )
        lists: dict[str, Any] = {name: tuple(values.pop(name)) for name in ("seeds", "lrs", "overrides")}
        return Plan(systems=systems, worlds=worlds, **lists, **values)
    except (OSError, json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is not the folder of a comparison: {type(error).__name__}: {error}") from error


def check_kept(folder: Path, cell: Cell, config: RunConfig) -> None:
    """Refuse to mix cells of another budget, data or test with those of the plan; `ValueError` names what differs."""
    path = CellFiles.of(folder, cell).run / CONFIG
    if not path.exists():
        return
    check_local_data(path.parent, config.world)
    lines = []
    for key, (old, new) in differences(load_config(path).to_dict(), config.to_dict()).items():
        rule = rule_of(key)
        # Some keys enter neither the training of a cell nor its test: a cell on disk may differ in them.
        paced = rule.compare == "pace" and config.train.minutes is None
        if not (rule.resume and (rule.compare == "own" or paced)):
            lines.append(f"  {key}: {old} there, {new} now")
    if lines:
        text = [f"{path.parent} is of another comparison. Nothing was changed; name another out=.", *lines]
        raise ValueError("\n".join(text))


def check_alike(configs: Mapping[Cell, RunConfig]) -> None:
    """Raise `ValueError`, naming key and systems, where systems do not have the same data, budget and test."""
    first: dict[tuple[str, int], Cell] = {}
    for cell, config in configs.items():
        other = first.setdefault((cell.world, cell.seed), cell)
        for key, (theirs, own) in differences(configs[other].to_dict(), config.to_dict()).items():
            if rule_of(key).compare != "own":
                raise ValueError(
                    f"{key}: {theirs} for {other.system}, {own} for {cell.system}; all systems must have the same. "
                    f"Give {key} once, for all."
                )


def other_cells(folder: Path, cells: Collection[Cell]) -> list[str]:
    """Names of the runs in `folder` that are not of `cells`."""
    names = {cell.name for cell in cells}
    return sorted(path.parent.name for path in folder.glob(f"cells/*/{CELL}") if path.parent.name not in names)
