"""Sweeps: `backbone=s4,gru seed=range(3)` becomes one list of plain overrides per combination."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep

from wmkit.training.compose import parse_overrides


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of the overrides' values in Hydra's grammar, the last override varying fastest."""
    return [list(job) for job in itertools.product(*(_values(override) for override in overrides))]


def _values(word: str) -> list[str]:
    parsed = parse_overrides([word])[0]
    if not parsed.is_sweep_override():
        return [word]
    return [f"{parsed.get_key_element()}={value}" for value in swept(parsed)]


def swept(word: Override) -> list[str]:
    """The values of `a,b`, `choice(a, b)` or `range(3)`; raises `ValueError` for what cannot be listed."""
    if not isinstance(word.value(), ChoiceSweep | RangeSweep):
        raise ValueError(f"{word.input_line}: expected values with commas between, or range(...)")
    return list(word.sweep_string_iterator())
