"""Checks of what a user gave, in the words of every error message: what was expected, what came, what is near it."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor


def closest(word: str, words: Collection[str]) -> str:
    """` Did you mean 'x'?` when some word is near, in capitals or not, else nothing: the end of an error message."""
    by_lower = {each.lower(): each for each in words}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f" Did you mean {by_lower[near[0]]!r}?" if near else ""


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        hint = closest(str(value), [str(choice) for choice in choices])
        raise ValueError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}.{hint}")


def check_between(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise `ValueError` unless `value` is a number, `low` <= `value` <= `high` and it is finite."""
    _check_real(name, value)
    # `not (a <= b)` instead of `a > b`: NaN must not pass.
    if not (low <= value <= high) or math.isinf(value):
        limit = f"at least {low}" if math.isinf(high) else f"between {low} and {high}"
        raise ValueError(f"{name}: expected {limit}, got {value}")


def check_positive(name: str, value: float) -> None:
    """Raise `ValueError` unless `value` is a number, positive and finite."""
    _check_real(name, value)
    if not (0 < value < math.inf):
        raise ValueError(f"{name}: expected a positive number, got {value}")


def check_integer(name: str, value: Any, low: int) -> int:
    """`value` as an int; raises `ValueError` unless it is an integer of at least `low`: no 2.0, no bool, no text."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name}: expected a whole number of at least {low}, got {value!r} ({type(value).__name__})")
    if value < low:
        raise ValueError(f"{name}: expected at least {low}, got {value}")
    return int(value)


def check_bool(name: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is True or False: any text would count as True."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {value!r} ({type(value).__name__})")


def check_tensor(name: str, value: Any, device: torch.device | None = None) -> None:
    """Raise `ValueError` unless `value` is a tensor, and on the model's `device` where one is given."""
    if not isinstance(value, Tensor):
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        numbers_inside = isinstance(value, np.ndarray | np.generic | list | tuple | numbers.Real)
        raise ValueError(
            f"{name}: expected a tensor, got a {kind}{'; torch.as_tensor makes one' if numbers_inside else ''}"
        )
    if device is not None and value.device != device:
        raise ValueError(f"{name}: it is on {value.device}, the model on {device}; move one of the two by .to")


def _check_real(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name}: expected a number, got {value!r} ({type(value).__name__})")
