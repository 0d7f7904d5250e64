"""The ops of this checkout beside those of another, call by call in turns.

    python -m benchmarks.kernels.against OTHER

`OTHER` is a folder with an earlier checkout (`git worktree add ../before COMMIT`). Each side is a process of its own
with one thread and the tuned allocator, timed by the processor time it takes, which other programs hardly change. A
ratio above 1 says that this checkout is slower.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.kernels.__main__ import TUNED

WORKER = """
import copy, json, sys, time
import torch
from benchmarks.kernels import ops
from wmkit.backbones import S4, Backbone, S4Config

torch.set_num_threads(1)
size = ops.QUICK if sys.argv[1] == "quick" else ops.FULL
runs = {}
for case in ops.CASES:
    torch.manual_seed(0)
    forward, both = ops.passes(case, case.make(size), size.length)
    runs |= {f"{case.name}, forward": forward, f"{case.name}, forward + backward": both}
config = S4Config.for_size("tiny" if sys.argv[1] == "quick" else "small")
backbone = S4(config.input_dim, config)
x = torch.randn(16, 64, config.input_dim)
runs["S4, training on whole episodes"] = lambda: backbone.scan(x, return_state=False)[0].square().sum().backward()
runs["S4, training with states"] = lambda: backbone.scan(x)[0].square().sum().backward()
reader = copy.deepcopy(backbone)
if hasattr(reader, "prepared"):  # else the checkout keeps what it made of the parameters unasked
    block = reader.prepared()
    block.__enter__()

@torch.no_grad()
def read_once():
    backbone.layers[0].ssm.log_dt.add_(0)  # as after a step of training: what was kept of the parameters holds no more
    backbone.scan(x)

runs["S4, reading"] = torch.no_grad()(lambda: reader.scan(x))
runs["S4, reading once"] = read_once
runs["S4, 64 steps of imagination"] = torch.no_grad()(lambda: Backbone.scan(backbone, x))
print(json.dumps(list(runs)), flush=True)
for line in sys.stdin:
    run, start = runs[line.strip()], time.process_time()
    run()
    print(1e3 * (time.process_time() - start), flush=True)
"""


class Side:
    """A process that runs the ops of one checkout when it is told to."""

    def __init__(self, checkout: Path, size: str) -> None:
        command = [sys.executable, "-c", "import sys; sys.path.insert(0, '.')\n" + WORKER, size]
        self.process = subprocess.Popen(
            command,
            cwd=checkout,
            env=os.environ | TUNED | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.rows: list[str] = json.loads(self._answer())

    def ms(self, row: str) -> float:
        """Milliseconds of one call."""
        assert self.process.stdin, "the process was started with a pipe"
        self.process.stdin.write(row + "\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout, "the process was started with a pipe"
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended early: {self.process.args}")
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder with an earlier checkout")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of this command")
    arguments = parser.parse_args()
    size = "quick" if arguments.quick else "full"
    ours, theirs = Side(Path(__file__).parents[2], size), Side(arguments.other, size)
    print(f"{'row':<36}{'before ms':>11}{'after ms':>11}{'ratio':>8}{'least':>8}")
    for row in (row for row in ours.rows if row in theirs.rows and arguments.only in row):
        pairs = [(theirs.ms(row), ours.ms(row)) for _ in range(arguments.rounds + 1)][1:]
        before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
        least = min(ours_ms for _, ours_ms in pairs) / min(theirs_ms for theirs_ms, _ in pairs)
        print(f"{row:<36}{before:>11.2f}{after:>11.2f}{after / before:>8.3f}{least:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
