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

Resets = Literal["none", "start", "middle", "last", "adjacent", "every", "chunks"]

CHUNKS = (8, 16, 32, 64)
"""Steps at which kernels that work in chunks begin a new one."""

LENGTHS = (1, 2, 7, 16, 64, 100)
ROWS = (1, 3, 17)


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
            *(["in train()"] if self.training else []),
            *(["strided inputs and state"] if self.strided else []),
            *(["jittered parameters"] if self.jittered else []),
        ]
        return ", ".join(words)

    def is_first(self, device: torch.device | str = "cpu") -> Tensor | None:
        """(rows, length) bool, or None without resets. All but the last of several rows reset, one step apart."""
        if self.resets == "none":
            return None
        marks = torch.zeros(self.rows, self.length, dtype=torch.bool, device=device)
        last = self.length - 1
        steps = {
            "start": [0],
            "middle": [self.length // 2],
            "last": [last],
            "adjacent": [self.length // 3, self.length // 3 + 1],
            "every": list(range(self.length)),
            "chunks": [t for chunk in CHUNKS for t in (chunk, 2 * chunk)],
        }[self.resets]
        apart = self.resets in ("middle", "adjacent")
        for row in range(max(1, self.rows - 1)):
            marks[row, [min(t + row * apart, last) for t in steps if t <= last]] = True
        return marks


def covering(lengths: tuple[int, ...], *, resets: bool) -> list[Situation]:
    """Situations without, or with, resets in which every two settings of two of their fields meet at least once.

    The first is the one that training is in: 64 steps in train() from state=None, with gradients, no state wanted.
    """
    kinds: tuple[Resets, ...] = ("start", "middle", "last", "adjacent", "every", "chunks") if resets else ("none",)
    training = Situation(64, 17, "none", kinds[-1], return_state=False, gradient=True, training=True, jittered=False)
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
