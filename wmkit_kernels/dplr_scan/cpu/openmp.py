"""Compiled code on the threads that PyTorch's own operations run on.

PyTorch's threads wait for their next piece of work without going to sleep. A second set of threads on the same cores
would share them with these: on two cores a pass in two threads of its own takes as long as in one. So machine code is
handed to the same threads, through the entry of the OpenMP library that PyTorch has loaded (`GOMP_parallel`, which
GCC's library and LLVM's on Linux have). As with PyTorch's operations, a forked process whose parent has used them has
to do without: `torch.set_num_threads(1)`, which data loaders call in theirs.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import torch

NEEDED = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


def why_no_openmp() -> str | None:
    """Why machine code cannot run on PyTorch's threads here, or None."""
    return None if _entry() else f"the process has no OpenMP library with {', '.join(NEEDED)}"


def run_parallel(address: int, numbers: Sequence[int], alone: bool) -> None:
    """Call the machine code at `address`, of C type void(int64_t *), with `numbers` (addresses, sizes).

    On every thread of PyTorch's, `torch.get_num_threads()` at most: the code asks
    `omp_get_num_threads` how many there are and `omp_get_thread_num` which one it runs on. `alone`: on the calling
    thread, for work that is not worth waking the others. The GIL is released meanwhile.
    """
    entry, threads = _entry(), 1 if alone else torch.get_num_threads()
    assert entry, "there is no OpenMP library: ask why_no_openmp first"
    arguments = (ctypes.c_int64 * len(numbers))(*numbers)
    if threads == 1:
        _function(address)(arguments)
    else:
        entry(address, arguments, threads, 0)


@functools.cache
def _entry() -> Any:
    """`GOMP_parallel(function, argument, threads, flags)`, or None."""
    try:
        library = ctypes.CDLL(None)
        entry, *_ = (getattr(library, name) for name in NEEDED)
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library that stands for the process
        return None
    entry.argtypes, entry.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return entry


@functools.cache
def _function(address: int) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
