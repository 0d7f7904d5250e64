"""One step of the DPLR recurrence in one pass over the state, compiled by Numba: what imagination runs on a CPU.

    alpha = q s,    y = (C a) s - (2 Re C g) alpha + (2 Re C Bbar + D) u,    s' = a s - g alpha + Bbar u

In PyTorch's operations the state, the largest thing there is, goes through memory five times. Here each channel of each
row is read once and written once.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from wmkit_kernels.dplr_scan.cpu.openmp import run_parallel

CHANNELS = 16
"""Channels that every row goes through before the next ones: 20 KiB of tables for 32 pairs, which stay in the nearest
cache, and 4 KiB of state in one piece."""

AHEAD = 2
"""Rows that memory is asked for ahead of the sums: the processor does not guess the jump from row to row. A step of
64 x 512 channels whose state lies in no near cache takes 0.65 ms with it and 0.83 without, two cores."""

LINE = 8
"""Complex numbers in a cache line."""

ALONE = 1 << 15
"""Real numbers of state up to which other threads are left asleep, as PyTorch does."""

READ, NEAREST, DATA = 0, 3, 1
"""Of LLVM's `prefetch`: to be read, into the nearest cache; data, not instructions."""

ROUNDING = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be taken in any order; NaN and infinity stay what they are."""


def one_pass(packed: Tensor, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One step: u (B, H), state (B, H, N, 2), contiguous float32 -> (y (B, H), s'), both new; see `cpu.step`."""
    u, state = u.contiguous(), state.contiguous()
    y, after = torch.empty_like(u), torch.empty_like(state)
    addresses = map(Tensor.data_ptr, (packed, u, state, y, after))
    run_parallel(_step.address, (*addresses, *state.shape[:3]), alone=state.numel() <= ALONE)
    return y, after


@intrinsic
def _pointer(typing, address):
    """An int64 as `void *`, for `numba.carray`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@intrinsic
def _prefetch(typing, array, index):
    """Ask for the cache line that holds element `index` of a contiguous array; one outside of it does no harm."""

    def generate(context, builder, signature, arguments):
        number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        hint = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, hint, "llvm.prefetch.p0")
        builder.call(function, [address, number(READ), number(NEAREST), number(DATA)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


_thread = types.ExternalFunction("omp_get_thread_num", types.int32())
_threads = types.ExternalFunction("omp_get_num_threads", types.int32())


@njit(fastmath=ROUNDING, error_model="numpy")
def _rows(ratio, readout, gain, inputs, gain_through, input_through, u, state, parts, y, after, start, stop):
    """Shares `start` to `stop`, of rows x blocks of channels, block after block.

    `parts` is the state as real numbers, which the two sums read faster.
    """
    rows, channels, pairs = state.shape
    for share in range(start, stop):
        block, row = share // rows, share % rows
        for h in range(CHANNELS * block, min(channels, CHANNELS * (block + 1))):
            ahead = ((row + AHEAD) * channels + h) * pairs
            for n in range(0, pairs, LINE):
                _prefetch(state, ahead + n)
                _prefetch(after, ahead + n)
            alpha, kept = np.float32(0), np.float32(0)
            for n in range(2 * pairs):
                alpha += readout[h, 0, n] * parts[row, h, n]
                kept += readout[h, 1, n] * parts[row, h, n]
            entering = u[row, h]
            for n in range(pairs):
                after[row, h, n] = ratio[h, n] * state[row, h, n] - gain[h, n] * alpha + inputs[h, n] * entering
            y[row, h] = kept - gain_through[h] * alpha + input_through[h] * entering


def has_a_place(function) -> bool:
    """Whether Numba may look for a folder for its code: without a home it would make one called ~ where it is."""
    beside = os.access(os.path.dirname(function.__code__.co_filename), os.W_OK)
    return bool(beside or config.CACHE_DIR or os.path.isabs(os.path.expanduser("~")))


def _compiled(function):
    """`function` as machine code, kept on disk; for this process alone where no folder takes it or keeps it whole."""
    numbers = types.void(types.CPointer(types.int64))
    try:
        return cfunc(numbers, cache=has_a_place(function), error_model="numpy")(function)
    except Exception:  # no folder, a full disk, a damaged file; what cannot be compiled fails again
        return cfunc(numbers, error_model="numpy")(function)


@_compiled
def _step(arguments):
    """The share of `one_pass` that falls to the thread it runs on; an address of tables is four bytes a number."""
    given = carray(arguments, 8)
    rows, channels, pairs = given[5], given[6], given[7]
    tables, a_table = given[0], 4 * 2 * channels * pairs
    ratio = carray(_pointer(tables), (channels, pairs), np.complex64)
    readout = carray(_pointer(tables + a_table), (channels, 2, 2 * pairs), np.float32)
    gain = carray(_pointer(tables + 3 * a_table), (channels, pairs), np.complex64)
    inputs = carray(_pointer(tables + 4 * a_table), (channels, pairs), np.complex64)
    gain_through = carray(_pointer(tables + 5 * a_table), (channels,), np.float32)
    input_through = carray(_pointer(tables + 5 * a_table + 4 * channels), (channels,), np.float32)
    u = carray(_pointer(given[1]), (rows, channels), np.float32)
    state = carray(_pointer(given[2]), (rows, channels, pairs), np.complex64)
    parts = carray(_pointer(given[2]), (rows, channels, 2 * pairs), np.float32)
    y = carray(_pointer(given[3]), (rows, channels), np.float32)
    after = carray(_pointer(given[4]), (rows, channels, pairs), np.complex64)
    shares, me, threads = rows * ((channels + CHANNELS - 1) // CHANNELS), _thread(), _threads()
    start, stop = shares * me // threads, shares * (me + 1) // threads
    _rows(ratio, readout, gain, inputs, gain_through, input_through, u, state, parts, y, after, start, stop)
