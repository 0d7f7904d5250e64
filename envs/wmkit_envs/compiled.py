"""One decorator for functions that numba compiles, so that the type checker still sees their signatures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from numba import config, njit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile `function` at its first call, without the GIL, and keep the machine code on disk for later processes.

    Where no folder takes it (the package is read-only and there is no home), or none any more (the disk is full, what
    it holds is damaged), each process compiles for itself.
    """
    made: Any = njit(nogil=True, error_model="numpy")(function)
    if made is function:  # NUMBA_DISABLE_JIT
        return function
    beside = os.access(os.path.dirname(function.__code__.co_filename), os.W_OK)
    if not (beside or config.CACHE_DIR or os.path.isabs(os.path.expanduser("~"))):
        return cast(Callable[Arguments, Result], made)  # without a home Numba would make a folder called ~ right here
    try:
        made.enable_caching()
    except RuntimeError:  # "no locator available"
        return cast(Callable[Arguments, Result], made)
    cache = made._cache
    load, save = cache.load_overload, cache.save_overload

    def load_or_compile(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:  # whatever unpickling a damaged file raises: None has the function compiled
            return None

    def save_or_not(*arguments: Any) -> None:
        with contextlib.suppress(OSError):  # the function is compiled, which is all that its caller wants
            save(*arguments)

    cache.load_overload, cache.save_overload = load_or_compile, save_or_not
    return cast(Callable[Arguments, Result], made)
