"""What a network answered right on held-out sequences, by level, and the interval over seeds and sequences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wmkit.diagnostics.base import NOT_ASKED, Sequences, Task
from wmkit.evaluation.estimates import Floats, percentiles

RESAMPLES = 1000
"""Of the bootstrap."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Of one network at one length: score of a level = 1 - sum of `lost` / sum of `asked`.

    Of classes `lost` counts wrong answers and `asked` all of them: accuracy. Of numbers `lost` is the squared error and
    `asked` the squared deviation from the mean of the level's answers: R^2.
    """

    levels: Sequence[int]
    lost: Floats
    """(N, L): by sequence and level."""
    asked: Floats
    """(N, L)"""

    @classmethod
    def of(cls, task: Task, said: Tensor, truth: Sequences) -> Scores:
        """said: logits (N, T, G, C), or numbers (N, T, G)."""
        known = torch.tensor(list(task.levels))
        place = torch.searchsorted(known, truth.levels.contiguous()).clamp(max=len(known) - 1)  # (N, T, G)
        asked = ~truth.answers.isnan() if task.classes is None else truth.answers != NOT_ASKED
        asked = asked & (known[place] == truth.levels)
        if task.classes is None:
            group = len(known) * torch.arange(asked.shape[-1]) + place  # the mean is each answer's own at each level
            flat, groups = group.flatten(), len(known) * asked.shape[-1]
            answers = truth.answers.where(asked, 0.0).double()
            number = torch.bincount(flat, asked.flatten().double(), groups).clamp(min=1)
            mean = torch.bincount(flat, answers.flatten(), groups) / number
            wrong = (said - truth.answers).double().square().where(asked, 0.0)
            most = (answers - mean[group]).square().where(asked, 0.0)
        else:
            wrong, most = (asked & (said.argmax(-1) != truth.answers)).double(), asked.double()
        empty = wrong.new_zeros(len(wrong), len(known))
        lost, total = (empty.scatter_add(1, place.flatten(1), part.flatten(1)).numpy() for part in (wrong, most))
        some = total.sum(0) > 0
        return cls(
            [level for level, here in zip(task.levels, some, strict=True) if here], lost[:, some], total[:, some]
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        rounded = [[float(f"{value:.5g}") for value in row] for row in self.lost.tolist()]
        asked = [[float(f"{value:.5g}") for value in row] for row in self.asked.tolist()]
        return {"levels": list(self.levels), "lost": rounded, "asked": asked}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Scores:
        """What `to_json` wrote; NaN is null in a file."""
        return cls(values["levels"], np.array(values["lost"], dtype=float), np.array(values["asked"], dtype=float))


@dataclasses.dataclass(frozen=True)
class Interval:
    """A score over seeds and sequences, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def from_json(cls, values: dict[str, float | None]) -> Interval:
        """From plain values; NaN is null in a file."""
        return cls(**{name: math.nan if value is None else value for name, value in values.items()})


def chance_of(task: Task, truth: Sequences) -> tuple[float, dict[int, float]]:
    """What `Task.unbound` scores on these sequences, and at each level of theirs."""
    said = task.unbound(truth)
    if said is None:
        same = 0.0 if task.classes is None else 1 / task.classes
        return same, dict.fromkeys(task.levels, same)
    assert task.classes is not None, f"{task.name} has numbers for answers"
    scores = Scores.of(task, F.one_hot(said, task.classes), truth)
    score, levels = summarise(task, [scores], truth.inputs.shape[1])
    return score.mean, {level: interval.mean for level, interval in levels.items()}


def summarise(task: Task, seeds: Sequence[Scores], length: int) -> tuple[Interval, dict[int, Interval]]:
    """The score of a task at a length over the networks of several seeds, and that of each level.

    The score of several levels is the mean of theirs, so that a level counts the same at every length, however many
    answers it has there; of a capacity it is their sum.

    Intervals by bootstrap: seeds are drawn anew, and for each its own sequences, where `crossed` draws one set for all
    seeds: here a score is a ratio of sums, no mean of one value for each sequence.
    """
    levels = seeds[0].levels
    lost, asked = (np.stack([getattr(one, name) for one in seeds]) for name in ("lost", "asked"))  # (S, N, L)
    count, rows, _ = lost.shape
    generator = np.random.default_rng(0)
    times = generator.multinomial(rows, np.full(rows, 1 / rows), size=(RESAMPLES, count)).astype(float)  # (R, S, N)
    chosen = generator.integers(count, size=(RESAMPLES, count))
    drawn = [
        np.stack(
            [
                weights[:, np.newaxis] @ values[seed]
                for weights, seed in zip(times.swapaxes(0, 1), chosen.T, strict=True)
            ]
        ).sum(0)[:, 0]
        for values in (lost, asked)
    ]  # (R, L) each
    judged = [number for number, level in enumerate(levels) if level in task.judged(length)]

    def score(lost: Floats, asked: Floats, among: Sequence[int]) -> Floats:
        """(..., L) -> (...): over the levels `among`."""
        with np.errstate(invalid="ignore"):  # a level of few sequences may be missing from a resample
            each = 1 - lost[..., among] / asked[..., among]
        return np.maximum(0, each).sum(-1) if task.capacity else each.mean(-1)

    def interval(among: Sequence[int]) -> Interval:
        low, high = percentiles(score(drawn[0], drawn[1], among))
        return Interval(float(score(lost.sum((0, 1)), asked.sum((0, 1)), among)), float(low), float(high))

    return interval(judged), {level: interval([number]) for number, level in enumerate(levels)}
