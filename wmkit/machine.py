"""What a run ran on, in words: a speed without its machine says nothing."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")


def cpu_info() -> str:
    """The text of /proc/cpuinfo; empty where there is none or where it may not be read."""
    try:
        return CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def processor() -> str:
    """`AMD EPYC (family 25, model 17), 2 cores`."""
    return f"{processor_name()}, {os.cpu_count()} cores"


def processor_name() -> str:
    """The processor's name, as far as the system tells it.

    With family and model where it tells those: hosts name their processors alike that differ twofold in speed.
    """
    pairs = (line.partition(":") for line in cpu_info().partition("\n\n")[0].splitlines())  # of the first processor
    told = {key.strip(): value.strip() for key, _, value in pairs}
    if "model name" not in told:
        return platform.processor() or platform.machine()
    kind = ", ".join(
        f"{word} {told[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in told
    )
    return f"{told['model name']} ({kind})" if kind else told["model name"]


def graphics() -> list[str]:
    """Names of the GPUs that PyTorch sees."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def seconds_of(action: Callable[[], object], tries: int, repeats: int) -> float:
    """Of one action, after a first one: the median over tries of several in a row.

    Of the processor where PyTorch has one thread, so that other work on the machine counts less; else of the wall.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    action()
    times = []
    for _ in range(tries):
        begun = clock()
        for _ in range(repeats):
            action()
        times.append((clock() - begun) / repeats)
    return statistics.median(times)
