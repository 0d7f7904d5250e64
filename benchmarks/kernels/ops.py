"""Every op on its own: right or not, times, memory, and how near it comes to what the machine can do.

The limit is the larger of two times: the bytes that must be moved (inputs, outputs and their gradients, each once) over
the bandwidth of a copy, and the operations of the algorithm over the rate of a matrix product, in the precision that
the op works in. Both are counted by hand, forward and backward together; an FFT of n real numbers is 2.5 n log2 n.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks import gpu
from benchmarks.gpu import Case, Size, Tensors
from benchmarks.kernels.clock import Machine, Run, interleaved, peak_mib
from wmkit_kernels import fft_conv, reference

FULL, QUICK = Size(8, 512, 32, 1000), Size(2, 32, 16, 128)

SMALL = Size(2, 8, 32, 250)
"""Where ops are checked against, and timed beside, their references: loops over steps and dense matrices, so slow."""

ROUNDS = 7


def rows(size: Size, machine: Machine, end: float) -> Iterator[dict[str, Any]]:
    """Measurements of every op; those not begun by `end` (`time.monotonic`) are left out, and said so."""
    for case in CASES:
        if time.monotonic() > end:
            yield {"name": case.name, "verdict": "left out: no time"}
            continue
        verdict = gpu.verdict_of(lambda case=case: check(case))
        yield {"name": case.name, "verdict": verdict} | (measured(case, size, machine) if verdict == "right" else {})


def check(case: Case) -> None:
    """Raise `AssertionError` naming the output or gradient that is off its reference in double precision."""
    gpu.compare(case, case.make(SMALL), SMALL.length, torch.device("cpu"), "torch", against_reference=True)


def measured(case: Case, size: Size, machine: Machine) -> dict[str, Any]:
    """Times of both passes, and how many times slower the reference is."""
    run, small = passes(case, case.make(size), size.length), case.make(SMALL)
    ms = interleaved({"forward": run[0], "both": run[1]}, ROUNDS)
    double = {name: gpu.to_double(x) for name, x in small.items()}
    slow = passes(dataclasses.replace(case, run=lambda xs, length, _: case.reference(xs, length)), double, SMALL.length)
    beside = interleaved({"ours": passes(case, small, SMALL.length)[1], "reference": slow[1]}, rounds=3)
    _, _, moved, operations = case.cost(size)
    rate = machine.double_rate if case.name in IN_DOUBLE else machine.rate
    moving, reckoning = moved / machine.bandwidth, operations / rate
    return {
        "forward_ms": ms["forward"], "ms": ms["both"], "mib": peak_mib(run[1]), "moved_mb": moved / 1e6,
        "giga_operations": operations / 1e9, "limit": "arithmetic" if reckoning > moving else "bandwidth",
        "share": max(moving, reckoning) / (ms["both"] * 1e-3), "over_reference": beside["reference"] / beside["ours"],
    }  # fmt: skip


def passes(case: Case, tensors: Tensors, length: int) -> tuple[Run, Run]:
    """The forward pass alone, and both."""
    leaves = {name: x.clone().requires_grad_(x.dtype != torch.bool) for name, x in tensors.items()}

    def forward() -> Any:
        return case.run(leaves, length, "torch")

    def both() -> None:
        loss = torch.stack([x.real.sum() for x in gpu.flat(forward())]).sum()
        torch.autograd.grad(loss, [x for x in leaves.values() if x.requires_grad])

    return torch.no_grad()(forward), both


def convolution(size: Size) -> Tensors:
    """Inputs of `fft_conv`."""
    k = torch.randn(size.channels, size.length) / size.length**0.5
    return {"k": k, "u": torch.randn(size.batch, size.length, size.channels)}


Counts = tuple[float, float, float, float]
"""Bytes and operations of the forward pass, then of both passes."""


def kernel_cost(s: Size) -> Counts:
    """Four geometric sums as products, and ten transforms of 2 T: Newton's inverse, a quotient and a product."""
    forward = s.channels * (16 * s.pairs * s.length + 10 * transform(2 * s.length))
    return 4 * s.channels * s.length, forward, 8 * s.channels * s.length, 3 * forward


def scan_cost(s: Size) -> Counts:
    """Per step two rows from the chunk's inputs and from its state, and the next state from inputs and alpha."""
    steps = s.batch * s.length * s.channels
    return 8 * steps, steps * (32 + 16 * s.pairs), 16 * steps, 3 * steps * (32 + 16 * s.pairs)


def vandermonde_cost(s: Size) -> Counts:
    """One product forward, two of the same size backward."""
    numbers = s.channels * s.length
    return 4 * numbers, 4 * numbers * s.pairs, 8 * numbers, 12 * numbers * s.pairs


def convolution_cost(s: Size) -> Counts:
    """Two transforms of 2 T per row and a product of half-spectra forward; three and two backward."""
    rows = s.batch * s.channels
    forward, both = (n * transform(2 * s.length) + m * 6 * s.length for n, m in ((2, 1), (5, 3)))
    return 8 * rows * s.length, rows * forward, 16 * rows * s.length, rows * both


def transform(n: int) -> float:
    """Operations of an FFT of n real numbers."""
    return 2.5 * n * math.log2(n)


IN_DOUBLE = {"dplr_kernel"}
"""Ops that work in double precision whatever comes in."""

COSTS: dict[str, Callable[[Size], Counts]] = {
    "dplr_kernel": kernel_cost,
    "dplr_scan": scan_cost,
    "vandermonde": vandermonde_cost,
    "diagonal_scan": gpu.diagonal_cost,
}

CASES = (
    *(dataclasses.replace(case, cost=COSTS[case.name]) for case in gpu.CASES),
    Case(
        "fft_conv", convolution,
        lambda xs, length, backend: fft_conv(**xs),
        lambda xs, length: reference.fft_conv(**xs),
        convolution_cost,
    ),
)  # fmt: skip
