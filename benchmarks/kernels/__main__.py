"""Every kernel on this CPU: right or not, how fast, beside whom, and how it grows; in under ten minutes.

    python -m benchmarks.kernels [--quick] [--threads 2] [--only ops curves] [--out FOLDER]

`peer` times ours beside state-spaces/s4, call by call in turns, under glibc's allocator as it is and tuned, which is
much kinder to the peer and what the bars are for; it wants a checkout:

    git clone https://github.com/state-spaces/s4 && export WMKIT_PEER_S4=$PWD/s4

`ops` times every op beside its reference and the machine's limits, `curves` shows growth with T, H and N. What is not
right is not timed, and the status is 1; a missed bar is said in its line. Every part runs in a process of its own.
With `--out`, what is printed is kept as text, the measurements as JSON and the curves as a picture. One thread is timed
by processor time, more by the clock on the wall: run those on a machine with nothing else on it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernels import curves, ops, peer, report
from benchmarks.kernels.clock import Company, Machine

TUNED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}
"""glibc keeps freed memory instead of mapping every large temporary anew."""

BUSY = 0.1
"""Processors used by others from which on times are called provisional."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One process of measurements."""

    seconds: float
    """What is not begun by then is left out."""
    environment: dict[str, str]


PARTS = {
    "peer": Part(150, TUNED),
    "peer-default": Part(120, {}),
    "ops": Part(90, TUNED),
    "curves": Part(180, TUNED),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of this command, not of the kernels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--out", type=Path, help="folder for tables.txt, measurements.json, curves.png")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        (part,) = arguments.only
        arguments.write.write_text(json.dumps(measure(part, arguments.quick, arguments.threads)))
        return
    found = {part: run(part, arguments.quick, arguments.threads) for part in arguments.only}
    if arguments.out:
        keep(found, arguments.out)
    wrong = [row["name"] for part in found.values() for row in part["rows"] if is_wrong(row["verdict"])]
    raise SystemExit(f"not right: {', '.join(wrong)}" if wrong else 0)


def run(part: str, quick: bool, threads: int) -> dict[str, Any]:
    """Measure a part in a process of its own, and print it."""
    if part.startswith("peer") and (why := peer.missing()):
        print(f"\n{part}: {why}", flush=True)
        return {"rows": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.kernels", "--only", part, "--write", str(path)]
        command += ["--threads", str(threads), *(["--quick"] if quick else [])]
        environment = {k: v for k, v in os.environ.items() if k not in TUNED} | PARTS[part].environment
        done = subprocess.run(command, env=environment | {"OMP_NUM_THREADS": str(threads)}, stderr=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"{part} failed:\n{done.stderr.decode()[-4000:]}")
        found: dict[str, Any] = json.loads(path.read_text())
    print("", *table(part, found), sep="\n", flush=True)
    return found


def measure(part: str, quick: bool, threads: int) -> dict[str, Any]:
    """What this process measures."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    end, company = time.monotonic() + PARTS[part].seconds, Company()
    machine = Machine.measured(256 if quick else 2048)
    found: Iterable[dict[str, Any]]
    if part == "ops":
        found = ops.rows(ops.QUICK if quick else ops.FULL, machine, end)
    elif part == "curves":
        found = curves.rows(quick, end)
    else:
        found = peer.rows(peer.QUICK if quick else peer.Shape(), end)
    rows = list(found)
    return {"machine": str(machine), "busy": company.processors(), "quick": quick, "rows": rows}


def table(part: str, found: dict[str, Any]) -> list[str]:
    """The machine, whether the times can be trusted, and the rows."""
    lines = {"ops": report.ops, "curves": report.curves}.get(part, report.contests)
    return [f"{part}: {found['machine']}", trust(found), *lines(found["rows"])]


def trust(found: dict[str, Any]) -> str:
    """Median of one run, or provisional."""
    if found["quick"]:
        return "quick: too small to mean anything"
    others = f"other programs used {found['busy']:.2f} processors"
    return f"PROVISIONAL: {others} meanwhile" if found["busy"] > BUSY else f"medians of one run; {others}"


def is_wrong(verdict: str) -> bool:
    """Neither met nor missed, but not the right answer."""
    return not (verdict in ("met", "MISSED", "not judged", "right", "measured") or verdict.startswith("left out"))


def keep(found: dict[str, Any], folder: Path) -> None:
    """The tables, everything as JSON, the curves as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = ("\n".join(table(part, rows)) + "\n" for part, rows in found.items() if rows["rows"])
    (folder / "tables.txt").write_text("\n".join(tables))
    (folder / "measurements.json").write_text(json.dumps(found, indent=1))
    if any("ms" in row for row in found.get("curves", {"rows": []})["rows"]):
        caption = f"{found['curves']['machine']}\n{trust(found['curves'])}"
        report.draw_curves(found["curves"]["rows"], folder / "curves.png", caption)


if __name__ == "__main__":
    main()
