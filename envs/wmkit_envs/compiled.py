"""One decorator for functions that numba compiles, so that the type checker still sees their signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile `function` at its first call, without the GIL, and keep the machine code on disk for later processes."""
    return cast(Callable[Arguments, Result], njit(cache=True, nogil=True)(function))
