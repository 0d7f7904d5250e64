"""What is compared: a backbone and whatever else makes it a system, under one label."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

from wmkit.checks import closest
from wmkit.registry import list_backbones

RATE = "train.lr"


@dataclasses.dataclass(frozen=True)
class System:
    """A label and the words of the command line behind it."""

    label: str
    words: tuple[str, ...]
    """`("backbone=gru", "data.sampler=persistent")`; they win over the words that all systems share."""
    lr: float | None = None
    """Its learning rate, where it has one of its own; None: those of the grid."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+", self.label):
            raise ValueError(f"A system is called by letters, digits and _.+-, got {self.label!r}")


def find_system(label: str, named: Mapping[str, str]) -> System:
    """The system that `named` has under `label`, else the registered backbone of that name.

    A word `train.lr=` gives it a learning rate of its own. Raises `ValueError` with the closest match and all names.
    """
    if label in named:
        return _system(label, named[label].split())
    if label in list_backbones("backbone"):
        return System(label, (f"backbone={label}",))
    known = sorted({*named, *list_backbones("backbone")})
    raise ValueError(
        f"Unknown system {label!r}.{closest(label, known)} Known: {', '.join(known)}. "
        f'Or say what it is: "system.{label}=backbone=s4 backbone.layers=4".'
    )


def learning_rate(key: str, text: str) -> float:
    """A positive number; raises `ValueError` naming `key` for anything else."""
    try:
        rate = float(text.strip("'\""))
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ValueError(f"{key}: expected one positive number, got {text}")
    return rate


def _system(label: str, words: Sequence[str]) -> System:
    keys = {word: word.partition("=")[0].lstrip("+") for word in words}
    own = [word.partition("=")[2] for word in words if keys[word] == RATE]
    lr = learning_rate(f"system.{label}: {RATE}", own[-1]) if own else None
    return System(label, tuple(word for word in words if keys[word] != RATE), lr)
