"""The plan of a comparison: its grid, its budget, the order of its cells, and the config of each."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from wmkit.comparison.cell import CELL, Cell, CellFiles
from wmkit.comparison.system import System
from wmkit.config import RunConfig, differences, load_config, rule_of
from wmkit.data.worlds import World, describe_world, restore_world
from wmkit.files import write_json
from wmkit.training.batches import check_query
from wmkit.training.compose import compose, world_overrides
from wmkit.training.machine_data import check_local_data
from wmkit.training.run_folder import CONFIG

PLAN = "plan.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """systems x worlds x seeds x learning rates, the same budget for each."""

    systems: tuple[System, ...]
    worlds: Mapping[str, World]
    """By label."""
    seeds: tuple[int, ...]
    lrs: tuple[float, ...]
    minutes: float | None
    """Minutes of training for each cell; None: `steps` are the budget."""
    steps: int | None
    words: tuple[str, ...] = ()
    """Words of the command line that every cell shares."""
    command: str = ""
    """What was typed."""

    def __post_init__(self) -> None:
        for name in ("systems", "worlds", "seeds", "lrs"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected at least one and none twice, got {list(values)}")
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("The budget is either minutes=... or steps=..., one of the two")
        names = [cell.name for cell in self.cells()]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"lrs: two runs would share the folder {twice[0]}; rates are told apart by six digits")

    def cells(self) -> list[Cell]:
        """Every cell; all of the first seed come first, so that a part of the comparison already compares."""
        rates = max((self.rates(system) for system in self.systems), key=len)
        grid = itertools.product(self.seeds, self.worlds, range(len(rates)), self.systems)
        return [
            Cell(system.label, world, self.rates(system)[number], seed)
            for seed, world, number, system in grid
            if number < len(self.rates(system))
        ]

    def rates(self, system: System) -> tuple[float, ...]:
        """The learning rates at which a system runs: its own, or the grid's."""
        return self.lrs if system.lr is None else (system.lr,)

    def config(self, cell: Cell, defaults: RunConfig) -> RunConfig:
        """The config of one cell; raises `ValueError`, naming the system, for words that do not fit it."""
        system = next(system for system in self.systems if system.label == cell.system)
        own = [*world_overrides(self.worlds[cell.world]), f"seed={cell.seed}", f"train.lr={cell.lr}"]
        steps = ["train.minutes=null", f"train.steps={self.steps}"]  # minutes would win over steps
        budget = [f"train.minutes={self.minutes}"] if self.steps is None else steps
        try:
            config = compose(defaults, [*self.words, *system.words, *own, *budget])
            if not any(word.startswith(("eval.horizon=", "eval.context=")) for word in self.words):
                query = config.world.episode_length - config.world.context_length
                config = dataclasses.replace(config, eval=dataclasses.replace(config.eval, horizon=query))
            check_query(config)
        except ValueError as error:
            raise ValueError(f"{cell.system} on {cell.world}: {error}") from error
        return config

    def budget(self) -> str:
        """The budget in words."""
        return f"{self.steps:,} steps" if self.minutes is None else f"{self.minutes:g} minutes of training"

    def save(self, folder: Path) -> None:
        """Write `plan.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        worlds = {label: describe_world(world) for label, world in self.worlds.items()}
        write_json(folder / PLAN, dataclasses.asdict(self) | {"worlds": worlds})


def load_plan(folder: Path) -> Plan:
    """What `save` wrote; raises `ValueError` for a folder that holds no comparison."""
    try:
        values: dict[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        systems = tuple(
            System(system["label"], tuple(system["words"]), system.get("lr")) for system in values.pop("systems")
        )
        worlds = {label: restore_world(world) for label, world in values.pop("worlds").items()}
        lists: dict[str, Any] = {name: tuple(values.pop(name)) for name in ("seeds", "lrs", "words")}
        return Plan(systems=systems, worlds=worlds, **lists, **values)
    except (OSError, json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is not the folder of a comparison: {type(error).__name__}: {error}") from error


def check_kept(folder: Path, cell: Cell, config: RunConfig) -> None:
    """Refuse to mix cells of another budget, data or test with those of the plan; `ValueError` names what differs."""
    path = CellFiles.of(folder, cell).run / CONFIG
    if not path.exists():
        return
    check_local_data(path.parent, config.world)
    found = differences(load_config(path).to_dict(), config.to_dict())
    lines = [
        f"  {key}: {old} there, {new} now"
        for key, (old, new) in found.items()
        if not _free_on_disk(key, by_minutes=config.train.minutes is not None)
    ]
    if lines:
        text = [f"{path.parent} is of another comparison. Nothing was changed; name another out=.", *lines]
        raise ValueError("\n".join(text))


def _free_on_disk(key: str, *, by_minutes: bool) -> bool:
    """Whether a cell on disk may differ from the plan in `key`: it enters neither its training nor its test."""
    rule = rule_of(key)
    return rule.resume and (rule.compare == "own" or (rule.compare == "pace" and not by_minutes))


def check_alike(configs: Mapping[Cell, RunConfig]) -> None:
    """Raise `ValueError`, naming key and systems, where systems do not have the same data, budget and test."""
    first: dict[tuple[str, int], Cell] = {}
    for cell, config in configs.items():
        other = first.setdefault((cell.world, cell.seed), cell)
        for key, (theirs, own) in differences(configs[other].to_dict(), config.to_dict()).items():
            if rule_of(key).compare != "own":
                raise ValueError(
                    f"{key}: {theirs} for {other.system}, {own} for {cell.system}; what is compared has the same. "
                    "Say it once, for all."
                )


def other_cells(folder: Path, cells: Collection[Cell]) -> list[str]:
    """Names of the runs in `folder` that are not of `cells`."""
    names = {cell.name for cell in cells}
    return sorted(path.parent.name for path in folder.glob(f"cells/*/{CELL}") if path.parent.name not in names)
