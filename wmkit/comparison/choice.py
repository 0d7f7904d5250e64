"""Which learning rate a system is judged by: chosen on the validation split, never on the test's."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from wmkit.comparison.cell import Status
from wmkit.comparison.result import CellResult, Validation


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean and range over seeds."""

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """Of the values that are there; None without any."""
        known = [value for value in values if value is not None]
        return cls(statistics.fmean(known), min(known), max(known), len(known)) if known else None


@dataclasses.dataclass(frozen=True)
class Choice:
    """The learning rate chosen for one system on one world."""

    system: str
    world: str
    lr: float
    seeds: tuple[int, ...]
    """Seeds whose validations were compared: those that every learning rate in question has finished."""
    measure: str
    """What was compared: `validation accuracy` or `validation loss`."""
    scores: dict[float, float]
    """Mean of the measure over `seeds`, for each learning rate in question."""


def choose(results: Sequence[CellResult]) -> Choice | None:
    """The best learning rate among the cells of one system on one world; None before one is done.

    Highest mean accuracy of imagined rewards at the last validation, the lower loss where they tie; the lowest mean
    loss where no reward is predicted. A learning rate with a failed cell is out unless all have one.
    """
    done = [result for result in results if result.last is not None]
    if not done:
        return None
    failed = {result.cell.lr for result in results if result.status is Status.FAILED}
    sound = [result for result in done if result.cell.lr not in failed] or done
    rates = sorted({result.cell.lr for result in sound})
    seeds = _common_seeds(sound, rates)
    last = {
        lr: [result.last for result in sound if result.cell.lr == lr and result.cell.seed in seeds and result.last]
        for lr in rates
    }
    by_accuracy = all(validation.accuracy is not None for values in last.values() for validation in values)
    keys = {lr: _key(values, by_accuracy) for lr, values in last.items() if values}
    best = min(keys, key=lambda lr: keys[lr])
    scores = {lr: -key[0] if by_accuracy else key[0] for lr, key in keys.items()}
    cell = sound[0].cell
    measure = "validation accuracy" if by_accuracy else "validation loss"
    return Choice(cell.system, cell.world, best, tuple(sorted(seeds)), measure, scores)


def _common_seeds(results: Sequence[CellResult], rates: Sequence[float]) -> set[int]:
    """Seeds that every rate has finished; all of them where there is no such seed."""
    by_rate = [{result.cell.seed for result in results if result.cell.lr == lr} for lr in rates]
    return set.intersection(*by_rate) or set.union(*by_rate)


def _key(values: Sequence[Validation], by_accuracy: bool) -> tuple[float, ...]:
    """Lower is better; a loss that is no number is the worst."""
    loss = statistics.fmean(math.inf if math.isnan(value.loss) else value.loss for value in values)
    return (-statistics.fmean(value.accuracy or 0.0 for value in values), loss) if by_accuracy else (loss,)
