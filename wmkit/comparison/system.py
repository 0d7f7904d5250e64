"""What is compared: a backbone and whatever else makes it a system, under one label."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from wmkit.config import closest
from wmkit.registry import list_backbones


@dataclasses.dataclass(frozen=True)
class System:
    """A label and the words of the command line behind it."""

    label: str
    words: tuple[str, ...]
    """`("backbone=gru", "data.sampler=persistent")`; they win over the words that all systems share."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+", self.label):
            raise ValueError(f"A system is called by letters, digits and _.+-, got {self.label!r}")


def find_system(label: str, named: Mapping[str, str]) -> System:
    """The system that `named` has under `label`, else the registered backbone of that name.

    Raises `ValueError` with the closest match and all names.
    """
    if label in named:
        return System(label, tuple(named[label].split()))
    if label in list_backbones("backbone"):
        return System(label, (f"backbone={label}",))
    known = sorted({*named, *list_backbones("backbone")})
    raise ValueError(
        f"Unknown system {label!r}.{closest(label, known)} Known: {', '.join(known)}. "
        f'Or say what it is: "system.{label}=backbone=s4 backbone.layers=4".'
    )
