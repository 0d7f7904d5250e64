"""The situations in which `scan` must equal repeated `step`: a set that covers every pair of settings."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from typing import Any, Literal

import torch
from torch import Tensor

Start = Literal["none", "initial", "carried", "mixed"]
"""The incoming state: None, `initial_state`, one with a past, or rows of both."""

Resets = Literal["none", "empty", "together", "middle", "last", "adjacent", "every", "chunks", "far"]
"""Where rows reset; `none` is is_first=None, `empty` an `is_first` that is False everywhere."""

CHUNKS = (8, 16, 32, 64)
"""Steps at which kernels that work in chunks begin a new one."""

LENGTHS = (1, 2, 7, 16, 64, 100)
ROWS = (1, 3, 16, 33)

FAR = (128, 144, 192, 256)
"""Resets of a long sequence: multiples of 128 and of 48. At 192 every row resets."""


@dataclasses.dataclass(frozen=True)
class Situation:
    """One way to call `scan`."""

    length: int = 16
    rows: int = 3
    start: Start = "none"
    resets: Resets = "none"
    return_state: bool = True
    gradient: bool = False
    training: bool = False
    strided: bool = False
    jittered: bool = True

    def __str__(self) -> str:
        starts = {
            "none": "state=None",
            "initial": "an initial state",
            "carried": "a carried state",
            "mixed": "a state with fresh rows beside carried ones",
        }
        words = [
            f"scan of {self.length} step{'s' * (self.length > 1)}, {self.rows} row{'s' * (self.rows > 1)}",
            f"from {starts[self.start]}",
            *([] if self.resets == "none" else [f"resets: {self.resets}"]),
            *([] if self.return_state else ["return_state=False"]),
            *(["with gradients"] if self.gradient else []),
            *(["in train(), inside prepared()"] if self.training else []),
            *(["strided inputs, state and is_first"] if self.strided else []),
            *(["jittered parameters"] if self.jittered else []),
        ]
        return ", ".join(words)

    def is_first(self, device: torch.device | str = "cpu") -> Tensor | None:
        """(rows, length) bool, or None without resets; on most steps all rows but the middle one of several reset.

        `together`: every row resets at the first step and again halfway, as in a batch of whole episodes.
        """
        if self.resets == "none":
            return None
        marks = torch.zeros(self.rows, self.length, dtype=torch.bool, device=device)
        last = self.length - 1
        steps = {
            "empty": [],
            "together": [0, self.length // 2],
            "middle": [self.length // 2],
            "last": [last],
            "adjacent": [self.length // 3, self.length // 3 + 1],
            "every": list(range(self.length)),
            "chunks": [t for chunk in CHUNKS for t in (chunk, 2 * chunk)],
            "far": list(FAR),
        }[self.resets]
        apart = self.resets in ("middle", "adjacent")
        spared = self.rows // 2 if self.rows > 1 and self.resets != "together" else None
        for row in range(self.rows):
            if row != spared:
                marks[row, [min(t + row * apart, last) for t in steps if t <= last]] = True
        if self.resets == "far":
            marks[:, 192] = True
        return marks


FIXED = {
    False: [
        Situation(65, gradient=True),
        Situation(65, 33, "carried", return_state=False, gradient=True, training=True, strided=True),
        Situation(384, 3, "carried", gradient=True, training=True),
    ],
    True: [
        Situation(65, 16, "mixed", "chunks", return_state=False, gradient=True),
        Situation(257, 3, "carried", "far", gradient=True, training=True),
    ],
}
"""Without and with resets, tried beside a covering set: what truncated backpropagation through time passes, and the
edges of chunks. 384 steps are whole chunks of 48, 64 and 128."""


def covering(lengths: tuple[int, ...], *, resets: bool) -> list[Situation]:
    """Situations without, or with, resets in which every two settings of two of their fields meet at least once.

    The first is the one that training is in: 64 steps in train() from state=None, with gradients, no state wanted.
    """
    kinds: tuple[Resets, ...] = ("empty", "none")
    if resets:
        kinds = ("together", "middle", "last", "adjacent", "every", "chunks")
    training = Situation(64, 16, "none", kinds[-1], return_state=False, gradient=True, training=True, jittered=False)
    return list(_covering(lengths, kinds, training))


@functools.cache
def _covering(lengths: tuple[int, ...], kinds: tuple[Resets, ...], first: Situation) -> tuple[Situation, ...]:
    """Greedily: the candidate of many drawn that makes the most pairs meet for the first time."""
    both = (False, True)
    settings: dict[str, tuple[Any, ...]] = {
        "length": lengths, "rows": ROWS, "start": ("none", "initial", "carried", "mixed"), "resets": kinds,
        "return_state": both, "gradient": both, "training": both, "strided": both, "jittered": both,
    }  # fmt: skip
    draw = random.Random(0)

    def pairs(situation: Situation) -> set[tuple[tuple[str, Any], tuple[str, Any]]]:
        return set(itertools.combinations(dataclasses.asdict(situation).items(), 2))

    names = list(settings)
    missing = {
        ((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in settings[a] for y in settings[b]
    } - pairs(first)
    chosen = [first]
    while missing:
        (a, x), (b, y) = min(missing, key=repr)
        drawn = ({name: draw.choice(values) for name, values in settings.items()} for _ in range(60))
        candidates = [Situation(**(each | {a: x, b: y})) for each in drawn]
        best = max(candidates, key=lambda one: len(pairs(one) & missing))
        missing -= pairs(best)
        chosen.append(best)
    return tuple(chosen)
