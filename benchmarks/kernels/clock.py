"""Interleaved times, peak memory, and the limits of this machine."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from wmkit.machine import processor_name

Run = Callable[[], Any]


def interleaved(runs: Mapping[str, Run], rounds: int, seconds: float = 20.0) -> dict[str, float]:
    """Median milliseconds of each, called in turns, so that what slows the machine down hits all alike.

    After one call that does not count: `rounds` rounds, fewer (at least three) once `seconds` are over. One thread is
    timed by the processor time it takes, which other programs hardly change; more of them by the clock on the wall.
    """
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.monotonic() + seconds
    for done in range(rounds):
        if done >= 3 and time.monotonic() > end:
            break
        for name, run in runs.items():
            start = now()
            run()
            times[name].append(1e3 * (now() - start))
    return {name: statistics.median(taken) for name, taken in times.items()}


def peak_mib(run: Run) -> float:
    """The most memory that tensors made during `run` hold at once, by the allocator's own records."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
        run()
    held = most = 0
    for event in records.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 2**20


@dataclasses.dataclass
class Machine:
    """What this machine can do at best, measured: bytes per second of a copy, operations per second of a product."""

    name: str
    threads: int
    torch: str
    bandwidth: float
    rate: float
    double_rate: float

    @classmethod
    def measured(cls, edge: int) -> Machine:
        """With square matrices of that edge, and a copy of sixteen of them."""
        source, target = (torch.empty(16 * edge * edge) for _ in range(2))
        single, double = torch.randn(edge, edge), torch.randn(edge, edge, dtype=torch.float64)
        runs = {"copy": lambda: target.copy_(source), "32": lambda: single @ single, "64": lambda: double @ double}
        ms = interleaved(runs, rounds=9)
        moved, operations = 8 * source.numel(), 2 * edge**3
        return cls(
            processor_name(), torch.get_num_threads(), torch.__version__,
            moved / ms["copy"] * 1e3, operations / ms["32"] * 1e3, operations / ms["64"] * 1e3,
        )  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{self.name}, {self.threads} thread{'s' if self.threads > 1 else ''}, torch {self.torch}: "
            f"{self.bandwidth / 1e9:.1f} GB/s, {self.rate / 1e9:.0f} Gflop/s in float32, "
            f"{self.double_rate / 1e9:.0f} in float64"
        )


class Company:
    """Processors that other programs used while it was watched: more than a tenth, and the times are provisional."""

    def __init__(self) -> None:
        self.wall, (self.all, self.own) = time.perf_counter(), _busy()

    def processors(self) -> float:
        """Mean number of processors used by others since the start; 0 where the system does not tell."""
        both, own = _busy()
        return max(0.0, (both - self.all) - (own - self.own)) / max(1e-9, time.perf_counter() - self.wall)


def _busy() -> tuple[float, float]:
    """Processor seconds of the whole machine and of this process, since each began."""
    own = sum(os.times()[:2])
    try:
        with open("/proc/stat") as lines:
            user, nice, system, _, _, interrupt, soft, stolen = map(int, lines.readline().split()[1:9])
    except (OSError, ValueError):
        return own, own
    return (user + nice + system + interrupt + soft + stolen) / os.sysconf("SC_CLK_TCK"), own
