"""One run of a comparison: its name, its files, and how far it has come.

cells/NAME.json         the whole config, written before the run starts
cells/NAME.log          what the run printed
cells/NAME/             the run folder, and in it
cells/NAME/cell.json    {status, error, parameters, peak_memory_bytes}
"""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from wmkit.files import write_json

CELL = "cell.json"


class Status(StrEnum):
    """How far a cell has come."""

    WAITING = "waiting"
    UNFINISHED = "unfinished"
    DONE = "done"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One combination of the grid."""

    system: str
    world: str
    lr: float
    seed: int

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return f"{self.world}-{self.system}-lr{self.lr:g}-seed{self.seed}"

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
        """What `cell.json` says; empty where there is none."""
        path = self.run / CELL
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def write(self, **values: Any) -> None:
        """Change some entries of `cell.json`."""
        self.run.mkdir(parents=True, exist_ok=True)
        write_json(self.run / CELL, self.record() | values)

    def status(self) -> Status:
        """How far the cell has come, as far as its files say."""
        return Status(self.record().get("status", Status.WAITING))
