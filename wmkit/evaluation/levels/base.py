"""What an analysis of levels is, and the registry of analyses.

An analysis is one class in one file: it takes trained runs and gives plain values, a figure and a table. Its fields are
its options, in Python as for `wmkit levels NAME`; those that several analyses share are said here.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from matplotlib.figure import Figure

from wmkit.data import World
from wmkit.evaluation.held_out import context_and_horizon
from wmkit.evaluation.levels.reading import LoadedRun, hierarchy_of
from wmkit.evaluation.plots.look import own_look
from wmkit.evaluation.tables import Table
from wmkit.files import write_json
from wmkit.loading import LAST
from wmkit.registry import Classes

Runs = Mapping[str, Path]
"""Run folders by label."""
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
"""Colours of levels, bottom first."""


class Findings(NamedTuple):
    """What an analysis has found."""

    values: Mapping[str, Any]
    """Plain ones, for JSON."""
    figure: Figure
    table: Table


def option(default: Any, text: str, kind: type = int, *, least: int | None = None, metavar: str | None = None) -> Any:
    """A field of an analysis. text: what `--help` says of it; least: the smallest value that can be asked for."""
    return dataclasses.field(default=default, metadata={"help": text, "type": kind, "least": least, "metavar": metavar})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Analysis(ABC):
    """An analysis with its options."""

    name: ClassVar[str]
    """The word after `wmkit levels`; given by `register_analysis`."""
    help: ClassVar[str]
    """Its line in `wmkit levels --help`."""
    several: ClassVar[bool] = False
    """Whether it takes more than one run."""

    @abstractmethod
    def find(self, runs: Runs) -> Findings:
        """Look at the runs; raises `ValueError` for those without levels and clips that are too few or too short."""

    def write(self, runs: Runs, out: Path) -> Table:
        """Write `NAME.json` and `NAME.png` into the folder `out`; returns the table. Raises as `find` does."""
        with own_look():
            found = self.find(runs)
            write_json(out / f"{self.name}.json", found.values)
            found.figure.savefig(out / f"{self.name}.png")
        return found.table


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelAnalysis(Analysis):
    """An analysis of trained models, on held-out clips."""

    seed: int = option(0, "seed of the latents (default: 0)")
    checkpoint: str = option(LAST, "best, last, or a checkpoint's folder (default: last)", str)
    episodes_from: str | World | None = option(  # noqa: RUF009  it returns a field
        None,
        "an archive of split test, a world, or in quotes a world with settings, as in 'ray_maze world.size=11' "
        "(default: the run's own test episodes)",
        str,
        metavar="SOURCE",
    )

    def load(self, run: Path) -> LoadedRun:
        """The run with the clips that are asked for; raises `ValueError` for one without levels."""
        loaded = LoadedRun.of(run, self.checkpoint, self.episodes_from)
        hierarchy_of(loaded.model)
        return loaded


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipsAnalysis(ModelAnalysis):
    """An analysis whose values are means over clips."""

    clips: int | None = option(None, "held-out clips (default: 100, as published, or all there are)", least=2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryAnalysis(ModelAnalysis):
    """An analysis of what is imagined after a context."""

    context: int | None = option(None, "observed frames (default: as the run or its episodes say)", least=2)
    horizon: int | None = option(None, "imagined frames (default: as the run says)", least=1)

    def lengths(self, run: LoadedRun) -> tuple[int, int]:
        """Context and horizon as asked for, or as the run or its episodes say."""
        return context_and_horizon(run.config, self.context, self.horizon, episodes_from=run.episodes_from)

    def only(self, runs: Runs) -> tuple[LoadedRun, int, int]:
        """The one run, its context and its horizon; raises `ValueError` for several."""
        if len(runs) != 1:
            raise ValueError(f"This is an analysis of one run, got {', '.join(runs)}")
        run = self.load(next(iter(runs.values())))
        return run, *self.lengths(run)


AnalysisClass = TypeVar("AnalysisClass", bound=type[Analysis])
_analyses: Classes[Analysis] = Classes("analysis", "wmkit.evaluation.levels")


def register_analysis(name: str) -> Callable[[AnalysisClass], AnalysisClass]:
    """Class decorator: make an `Analysis` known as `name`. Raises `ValueError` for a name that is taken."""

    def register(cls: AnalysisClass) -> AnalysisClass:
        _analyses.add(name, cls)
        return cls

    return register


def all_analyses() -> dict[str, type[Analysis]]:
    """Every analysis by name."""
    return _analyses.all()


def colour_of(level: int) -> str:
    """The colour of a level, counted from 1."""
    return COLOURS[(level - 1) % len(COLOURS)]
