"""Compiled code on the threads that PyTorch's own operations run on.

PyTorch's threads wait for their next piece of work without going to sleep. A second set of threads on the same cores
would share them with these: on two cores a pass in two threads of its own takes as long as in one. So machine code is
handed to the same team, through the entry of the OpenMP library that PyTorch has loaded (`GOMP_parallel`, which GCC's
library and LLVM's on Linux have).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import torch


def why_no_team() -> str | None:
    """Why machine code cannot run on PyTorch's threads here, or None."""
    return None if _entry() else "the process has no OpenMP library with GOMP_parallel"


def run_on_team(address: int, numbers: Sequence[int]) -> None:
    """Call the machine code at `address`, of C type void(int64_t *), once on each of PyTorch's threads.

    It is given `numbers` (addresses, sizes) and, behind them, the number of threads; `omp_get_thread_num` tells it
    which one it runs on. The GIL is released meanwhile. `assert`s that `why_no_team()` is None.
    """
    entry, threads = _entry(), torch.get_num_threads()
    assert entry, "there is no OpenMP library: ask why_no_team first"
    arguments = (ctypes.c_int64 * (len(numbers) + 1))(*numbers, threads)
    entry(address, ctypes.addressof(arguments), threads, 0)


@functools.cache
def _entry() -> Any:
    """`GOMP_parallel(function, argument, threads, flags)`, or None."""
    try:
        library = ctypes.CDLL(None)
        entry, _ = library.GOMP_parallel, library.omp_get_thread_num
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library that stands for the process
        return None
    entry.argtypes, entry.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return entry
