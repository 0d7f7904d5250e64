"""The memory card of a backbone: its scores, how long, at what cost, and where it stands beside the shipped ones."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Self

from wmkit.diagnostics.base import MULTIPLES, SURE, Task
from wmkit.diagnostics.scores import Interval
from wmkit.evaluation.tables import Table


@dataclasses.dataclass(frozen=True)
class Level:
    """The score at one level, of the shortest sequences that have it."""

    level: int
    multiple: int
    """Of the training length: how long these sequences are."""
    score: Interval
    chance: float


@dataclasses.dataclass(frozen=True)
class Result:
    """What a backbone scored on a task, over seeds and held-out sequences."""

    task: str
    title: str
    level_name: str
    unit: str
    """`accuracy`, `R^2`, or `sum of R^2`."""
    chance: dict[int, float]
    """What answers score that know at most the values of a sequence, not which key or place each belongs to (see
    `Task.unbound`), by multiple of the training length."""
    best: float
    """The score that cannot be passed."""
    length: int
    """Of training sequences."""
    scores: dict[int, Interval]
    """By multiple of the training length."""
    sequences: dict[int, int]
    """Held-out ones that have a level which counts, by multiple of the training length."""
    levels: list[Level]
    seeds: list[int]
    steps: list[int]
    """Optimiser steps taken, by seed."""
    solved: list[bool]
    """Whether training ended because the task was solved, by seed."""
    untrained: dict[int, Interval] | None = None
    """Of a capacity, before training."""

    @property
    def longest(self) -> int | None:
        """The last level up to which all are above 90 %; None where the first is not, and of a capacity."""
        if self.unit == "sum of R^2":
            return None
        sure = None
        for level in self.levels:
            if not level.score.mean > SURE:  # NaN is not sure either
                break
            sure = level.level
        return sure

    @property
    def skill(self) -> float:
        """(score - chance) / (best - chance), at least 0, the mean over lengths: 0 is chance and 1 is perfect."""
        return statistics.fmean(
            max(0.0, (score.mean - self.chance[multiple]) / (self.best - self.chance[multiple]))
            for multiple, score in self.scores.items()
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `dataclasses.asdict` made, after JSON."""

        def intervals(scores: dict[str, Any]) -> dict[int, Interval]:
            return {int(multiple): Interval.from_json(score) for multiple, score in scores.items()}

        found = {
            "chance": {int(multiple): chance for multiple, chance in values["chance"].items()},
            "sequences": {int(multiple): count for multiple, count in values["sequences"].items()},
            "scores": intervals(values["scores"]),
            "levels": [Level(**one | {"score": Interval.from_json(one["score"])}) for one in values["levels"]],
            "untrained": values["untrained"] and intervals(values["untrained"]),
        }
        return cls(**values | found)


@dataclasses.dataclass(frozen=True)
class Card:
    """Everything that was measured of a backbone."""

    backbone: str
    origin: str
    numbers: dict[str, Any] | None
    """Its config."""
    effort: float
    """Share of each task's optimiser steps that training was given at most."""
    width: int
    """Of what enters it."""
    machine: str
    """That its costs were measured on."""
    costs: dict[str, Any]
    """See `costs.Costs`."""
    results: list[Result]

    @property
    def seeds(self) -> int:
        """The most trainings that a task had."""
        return max((len(result.seeds) for result in self.results), default=0)

    def result(self, task: str) -> Result | None:
        """Of the task called so, where it was measured."""
        return next((result for result in self.results if result.task == task), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `to_json` wrote."""
        return cls(**values | {"results": [Result.from_json(one) for one in values["results"]]})

    def table(self) -> Table:
        """For a terminal or a page."""
        rows = []
        for result in self.results:
            shown = [_text(result, result.scores[multiple]) for multiple in MULTIPLES]
            chance = _chance(result)
            longest = "-" if result.longest is None else f"{result.level_name} {result.longest}"
            rows.append([result.title, *shown, chance, longest])
            if result.untrained is not None:
                before = [_text(result, result.untrained[multiple]) for multiple in MULTIPLES]
                rows.append([f"{result.title}, untrained", *before, chance, "-"])
        costs, times = self.costs, self.costs["microseconds_per_step"]
        seeds = (
            "held-out sequences of one seed alone" if self.seeds == 1 else f"{self.seeds} seeds and held-out sequences"
        )
        share = "" if self.effort == 1 else f", {self.effort:.0%} of the steps"
        return Table(
            f"Memory card of {self.backbone}",
            ["task", *(f"{multiple}x length" for multiple in MULTIPLES), "chance", "> 90 % to"],
            rows,
            f"{costs['parameters']:,} parameters, {costs['state_bytes']:,} bytes of state a row; a step "
            f"{times['1']:,.0f} µs of 1 row, {times['64']:,.0f} µs of 64; training {costs['frames_per_second']:,.0f} "
            f"frames/s; {costs['threads']} thread{'s' * (costs['threads'] != 1)} of {self.machine}. "
            f"95 % intervals over {seeds}{share}.",
        )

    def standing(self, others: Mapping[str, Card]) -> str:
        """One line: where it stands among other cards, by the mean skill over the tasks that all have."""
        others = {
            name: card for name, card in others.items() if (card.origin, card.numbers) != (self.origin, self.numbers)
        }
        shared = [result.task for result in self.results if all(card.result(result.task) for card in others.values())]
        if not others or not shared:
            return "There is nothing to stand beside: none of these tasks was measured of the shipped backbones."

        def skill(card: Card) -> float:
            return statistics.fmean(result.skill for result in card.results if result.task in shared)

        own = skill(self)
        ranked = sorted(((skill(card), name) for name, card in others.items()), reverse=True)
        place = 1 + sum(value > own for value, _ in ranked)
        rest = ", ".join(f"{name} {value:.2f}" for value, name in ranked)

        def terms(card: Card) -> str:
            return f"width {card.width}, {card.seeds} seed{'s' * (card.seeds != 1)}, {card.effort:.0%} of the steps"

        theirs = sorted({terms(card) for card in others.values()})
        unlike = "" if theirs == [terms(self)] else f"; those had {' or '.join(theirs)}, this one {terms(self)}"
        tasks = f"{len(shared)} task{'s' * (len(shared) != 1)}"
        return (
            f"{self.backbone} has a mean skill of {own:.2f} over {tasks} and three lengths (0 chance, 1 perfect), "
            f"number {place} of {len(ranked) + 1} beside {rest}{unlike}"
        )


def side_by_side(cards: Sequence[Card]) -> Table:
    """A row per backbone: its scores at the three lengths in every task that any has, and its costs."""
    tasks = {result.task: result for card in cards for result in card.results}
    rows = []
    for card in cards:
        found = [card.result(task) for task in tasks]
        scores = [
            "-" if one is None else _short(one.unit, [score.mean for score in one.scores.values()]) for one in found
        ]
        rows.append(
            [card.backbone, *scores, f"{card.costs['state_bytes']:,}", f"{card.costs['frames_per_second']:,.0f}"]
        )
    rows.append(["chance", *(_chance(result) for result in tasks.values()), "-", "-"])
    return Table(
        "At 1, 2 and 4 times the training length",
        ["backbone", *(result.title for result in tasks.values()), "bytes of state", "frames/s"],
        rows,
    )


def shipped_cards() -> dict[str, Card]:
    """The cards of the backbones that ship with wmkit, as they were measured for it, by name."""
    text = resources.files("wmkit.diagnostics").joinpath("shipped.json").read_text(encoding="utf-8")
    return cards_from_json(json.loads(text))


def cards_to_json(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """Plain values of several cards."""
    return [card.to_json() for card in cards]


def cards_from_json(values: Sequence[dict[str, Any]]) -> dict[str, Card]:
    """Cards by name, from what `cards_to_json` made."""
    return {card["backbone"]: Card.from_json(card) for card in values}


def _text(result: Result, score: Interval) -> str:
    """`98.2 ± 0.7 %`, or `12.61 ± 0.22`: half the width of the interval."""
    if not math.isfinite(score.mean):
        return "not finite"
    half = (score.high - score.low) / 2
    return (
        f"{100 * score.mean:.1f} ± {100 * half:.1f} %"
        if result.unit == "accuracy"
        else f"{score.mean:.2f} ± {half:.2f}"
    )


def _short(unit: str, scores: Iterable[float]) -> str:
    """`100 100 98 %` at the three lengths, or `7.0 7.0 6.9`."""
    if unit == "accuracy":
        return " ".join(f"{100 * score:.0f}" for score in scores) + " %"
    return " ".join(f"{max(score, -9.9):.1f}" for score in scores)


def _chance(result: Result) -> str:
    """The chance at the three lengths, once where it is the same."""
    chances = list(result.chance.values())
    return _short(result.unit, chances[:1] if len(set(chances)) == 1 else chances)


def unit_of(task: Task) -> str:
    """What its score is."""
    return "sum of R^2" if task.capacity else "accuracy" if task.classes else "R^2"
