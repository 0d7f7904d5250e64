"""The demo's training beside other programs: `python -m benchmarks.busy [--busy 1 2 4] [--seconds 40]`.

Starts so many processes that never rest, trains beside them, and prints the speed as a share of that alone: as runs
train (as many threads as there are free cores), and with a thread for every core whatever happens. A fair share is what
the scheduler gives a program of as many threads as there are cores beside programs of one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

import wmkit
from recipes.memory_maze import config
from wmkit.machine import processor
from wmkit.training import read_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, nargs="+", default=[1, 2, 4], help="processes that never rest")
    parser.add_argument("--seconds", type=float, default=40.0, help="of training for each figure")
    args = parser.parse_args()
    cores = torch.get_num_threads()
    print(f"{processor()}, torch {torch.__version__}; make demo's training, frames/s and share of the speed alone")
    print(f"{'busy processes':>14}{'fair share':>12}{'threads fit':>20}{f'{cores} threads':>20}", flush=True)
    alone: dict[int | None, float] = {}
    for count in [0, *sorted({*args.busy} - {0})]:
        speeds = {}
        for threads in (None, cores):
            with busy(count):
                speeds[threads] = frames_per_second(threads, args.seconds)
            alone.setdefault(threads, speeds[threads])
        shares = "".join(f"{f'{speed:,.0f}  {speed / alone[key]:5.0%}':>20}" for key, speed in speeds.items())
        print(f"{count:>14}{cores / (cores + count):>12.0%}{shares}", flush=True)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes of no use, for as long."""
    # Of init: a child would count as one of ours.
    started = [
        int(subprocess.check_output(["sh", "-c", f"{sys.executable} -c 'while True: pass' >/dev/null & echo $!"]))
        for _ in range(count)
    ]
    time.sleep(1.0 if count else 0.0)
    try:
        yield
    finally:
        for process in started:
            os.kill(process, 9)


def frames_per_second(threads: int | None, seconds: float) -> float:
    """Median of training's log lines, the first one, with its warm-up, left out."""
    run = config()
    train = dataclasses.replace(
        run.train, minutes=seconds / 60, log_every=5, eval_every=10**6, device="cpu", threads=threads
    )
    with tempfile.TemporaryDirectory() as folder:
        wmkit.train(dataclasses.replace(run, train=train), folder)
        lines = list(read_lines(Path(folder) / "timing.jsonl"))
    speeds = [line["values"]["frames_per_second"] for line in lines if line["split"] == "train"]
    return statistics.median(speeds[1:] or speeds)


if __name__ == "__main__":
    main()
