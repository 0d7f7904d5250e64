"""What a diagnostic task is, and the registry of tasks.

A task is one class in one file: it draws sequences with their answers, and says at which of them it is judged. How
networks are trained, scored, kept and shown is the same for all and knows no task by name.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from wmkit.registry import Classes

NOT_ASKED = -1
"""In the place of an answer: at this step nothing is asked."""
MULTIPLES = (1, 2, 4)
"""Of the training length: those that a task is judged at."""
SURE = 0.9
"""A level counts as kept above this accuracy."""


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Sequences with their answers.

    Inputs are symbols, one or several a step, or numbers. Answers are classes, or numbers: one or several a step, each
    read by a linear map of its own from the features of that step.
    """

    inputs: Tensor
    """(B, T, F): int64, a symbol below `symbols[f]` in each place, or float32."""
    answers: Tensor
    """(B, T, G): int64, a class or `NOT_ASKED`; or float32, NaN where nothing is asked."""
    levels: Tensor
    """(B, T, G) int64: how hard an answer is: the steps since its symbol was shown, pairs to be kept, steps so far."""


class Task(ABC):
    """A question about sequences that a backbone with one linear readout is trained to answer.

    A subclass is registered by `register_task`, sets the fields below and draws sequences:

        @register_task("echo")
        class Echo(Task):
            title, level_name = "echo of the last symbol", "delay"
            symbols, answers, classes = (4,), 1, 4
            length, levels = 32, (1,)

            def draw(self, generator, rows, length):
                shown = torch.randint(4, (rows, length, 1), generator=generator)
                return Sequences(shown, delayed(shown, 1), torch.ones_like(shown))
    """

    name: ClassVar[str]
    """By which it is asked for; given by `register_task`."""
    order: ClassVar[int] = 100
    """Its place on the card: smaller ones come first, equal ones by name."""
    title: ClassVar[str]
    """In a few words, for the card."""
    level_name: ClassVar[str]
    """What a level counts: `delay`, `pairs`, `steps`."""
    length: ClassVar[int]
    """Steps of a training sequence."""
    levels: ClassVar[Sequence[int]]
    """Those that are told apart, at all lengths together. An answer of another level counts in training alone."""
    symbols: ClassVar[Sequence[int]] = ()
    """Of each place of an input, how many symbols there are; empty where inputs are numbers."""
    numbers: ClassVar[int] = 0
    """F: numbers of an input, where inputs are numbers."""
    answers: ClassVar[int] = 1
    """G: answers of a step."""
    classes: ClassVar[int | None]
    """Of an answer; None where answers are numbers, which are judged by R^2."""
    rows: ClassVar[int] = 32
    """Sequences of a training batch."""
    steps: ClassVar[int] = 1000
    """Optimiser steps at most; training ends before, once the task is solved at the longest length."""
    capacity: ClassVar[bool] = False
    """Whether its score is the sum of R^2 over levels, read by a ridge regression before training and after it."""
    grows: ClassVar[bool] = False
    """Whether a sequence of n times the length is judged at its last levels alone, those above (n - 1/2) lengths."""

    @abstractmethod
    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        """`rows` sequences of `length` steps, by the generator alone: the same one, the same sequences."""

    def held_out(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        """Sequences to be judged on: `rows` of them at each level that counts at this length."""
        return self.draw(generator, rows, length)

    def unbound(self, truth: Sequences) -> Tensor | None:
        """(B, T, G) answers of one who knows the values in a sequence, but not which key or place each belongs to.

        What they score is the chance of the task; None where a sequence tells nothing without that: then it is one in
        so many classes, or R^2 = 0 of the mean.
        """
        return None

    def judged(self, length: int) -> list[int]:
        """The levels that count at sequences of this length."""
        return [
            level for level in self.levels if level <= length and (not self.grows or level > length - self.length / 2)
        ]


class StateTracking(Task):
    """A task whose answer at t is a function of all inputs up to t, asked at every step of training.

    Levels are steps in spans of 8; a sequence is judged at its last 16 steps.
    """

    level_name = "steps"
    length, levels = 32, range(8, 129, 8)
    grows = True

    @staticmethod
    def tracked(inputs: Tensor, answers: Tensor) -> Sequences:
        """The sequences with the levels of their steps."""
        levels = 8 * (torch.arange(answers.shape[1]) // 8 + 1)
        return Sequences(inputs, answers, levels[None, :, None].expand_as(answers))


TaskClass = TypeVar("TaskClass", bound=type[Task])
_tasks: Classes[Task] = Classes("task", "wmkit.diagnostics.tasks", "wmkit.diagnostics")


def register_task(name: str) -> Callable[[TaskClass], TaskClass]:
    """Class decorator: make a `Task` known as `name`.

    Import its module, name it in `--plugins`, or offer it as an entry point of the group `wmkit.diagnostics`. Raises
    `ValueError` for a name that is taken.
    """

    def register(cls: TaskClass) -> TaskClass:
        _tasks.add(name, cls)
        return cls

    return register


def all_tasks() -> dict[str, type[Task]]:
    """Every task by name, in the order of the card."""
    return _tasks.all()


def find_tasks(names: Sequence[str]) -> list[Task]:
    """The tasks called so; raises `ValueError` with the closest match and the list of names."""
    return [cls() for cls in _tasks.find(names)]


def commonest(values: Tensor, among: Tensor, kinds: int) -> Tensor:
    """(..., N) values below `kinds` -> (...): the commonest of those where `among` is true, of several the smallest."""
    return (F.one_hot(values, kinds) * among[..., None]).sum(-2).argmax(-1)


def delayed(values: Tensor, delay: int) -> Tensor:
    """(B, T, ...) -> at every step the value of `delay` steps before; before there is one, what means `not asked`."""
    nothing = NOT_ASKED if values.dtype == torch.int64 else torch.nan
    before = values.new_full((values.shape[0], min(delay, values.shape[1]), *values.shape[2:]), nothing)
    return torch.cat([before, values[:, : values.shape[1] - delay]], dim=1) if delay < values.shape[1] else before
