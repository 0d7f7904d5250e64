"""A comparison as a whole: every cell's result, each system's choice, and the rows that tables and figures show."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wmkit.comparison.cell import Status
from wmkit.comparison.choice import Choice, Spread, choose
from wmkit.comparison.plan import Plan, load_plan
from wmkit.comparison.result import CellResult, read_cell
from wmkit.files import write_json

JSON = "comparison.json"


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure of a cell, as tables show it."""

    heading: str
    value: Callable[[CellResult], float | None]
    text: Callable[[float], str]
    interval: Callable[[CellResult], tuple[float, float] | None] = lambda result: None
    """95 % over test episodes, where there is one."""


def percent(value: float) -> str:
    """`97.3 %`."""
    return f"{100 * value:.1f} %"


def number(value: float) -> str:
    """`1,234`, `12.3`, `1.23`, `0.0123`."""
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


QUALITY = (
    Column(
        "imagination accuracy",
        lambda result: result.accuracy("imagination"),
        percent,
        lambda result: result.interval("imagination"),
    ),
    Column(
        "inference accuracy",
        lambda result: result.accuracy("inference"),
        percent,
        lambda result: result.interval("inference"),
    ),
    Column("doors right", lambda result: result.doors(), percent, CellResult.doors_interval),
    Column("generation error", lambda result: result.error_of("generation"), number),
    Column("reconstruction error", lambda result: result.error_of("reconstruction"), number),
)
COST = (
    Column("parameters", lambda result: result.parameters, lambda value: f"{value / 1e6:.2f} M"),
    Column("steps", lambda result: result.steps, lambda value: f"{value:,.0f}"),
    Column("training", lambda result: result.minutes, lambda value: f"{value:.1f} min"),
    Column("frames/s", lambda result: result.frames_per_second, lambda value: f"{value:,.0f}"),
    Column("peak memory", lambda result: result.peak_memory_bytes, lambda value: f"{value / 2**20:,.0f} MiB"),
)


@dataclasses.dataclass(frozen=True)
class Summary:
    """The plan and what came of it so far."""

    folder: Path
    plan: Plan
    results: tuple[CellResult, ...]

    def of(self, world: str, system: str, lr: float | None = None) -> list[CellResult]:
        """The cells of one system on one world, of one learning rate if it is given."""
        return [
            result
            for result in self.results
            if (result.cell.world, result.cell.system) == (world, system) and lr in (None, result.cell.lr)
        ]

    def choice(self, world: str, system: str) -> Choice | None:
        """The learning rate that the system is judged by."""
        return choose(self.of(world, system))

    def chosen(self, world: str, system: str) -> list[CellResult]:
        """The finished cells at the chosen learning rate, by seed."""
        choice = self.choice(world, system)
        return [] if choice is None else [r for r in self.of(world, system, choice.lr) if r.status is Status.DONE]

    def columns(self, world: str, columns: tuple[Column, ...]) -> list[Column]:
        """Those of `columns` that some cell of the world has a value for."""
        cells = [result for result in self.results if result.cell.world == world]
        return [column for column in columns if any(column.value(result) is not None for result in cells)]

    def count(self) -> Counter[Status]:
        """Cells by status."""
        return Counter(result.status for result in self.results)

    @property
    def complete(self) -> bool:
        """Whether every cell has ended, well or not."""
        return all(result.status in (Status.DONE, Status.FAILED) for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the plan, one entry per system and world, one per cell."""
        return {
            "plan": dataclasses.asdict(self.plan),
            "complete": self.complete,
            "cells_by_status": {status: self.count()[status] for status in Status},
            "systems": [self._entry(world, system.label) for world in self.plan.worlds for system in self.plan.systems],
            "cells": [result.to_json() for result in self.results],
        }

    def save(self) -> None:
        """Write `comparison.json` into the folder."""
        write_json(self.folder / JSON, self.to_json())

    def _entry(self, world: str, system: str) -> dict[str, Any]:
        choice, cells = self.choice(world, system), self.chosen(world, system)
        spreads = {column.heading: spread(cells, column) for column in (*QUALITY, *COST)}
        return {
            "system": system,
            "world": world,
            "choice": dataclasses.asdict(choice) if choice else None,
            "test": {heading: dataclasses.asdict(value) for heading, value in spreads.items() if value},
        }


def spread(cells: list[CellResult], column: Column) -> Spread | None:
    """Mean and range of a column over cells."""
    return Spread.of([column.value(result) for result in cells])


def read_summary(folder: Path) -> Summary:
    """The comparison in `folder`; raises `ValueError` where there is none."""
    plan = load_plan(folder)
    return Summary(folder, plan, tuple(read_cell(folder, cell) for cell in plan.cells()))
