"""One cell in a process of its own: `python -m wmkit.comparison.worker COMPARISON/cells/NAME.json`.

Trains from the newest checkpoint, if there is one, then tests and probes the last one. What it found, or why it failed,
goes to the cell's files. It ends when its parent does: the parent holds the other end of its standard input.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

import torch

from wmkit import tree
from wmkit.comparison.plan import PLAN, CellFiles, Status, load_plan
from wmkit.config import load_config
from wmkit.evaluation import HeldOutValidation, evaluate_run
from wmkit.loading import LAST, load
from wmkit.machine import seconds_of
from wmkit.pipe import ends_with_reader
from wmkit.probing import Plan as ProbePlan
from wmkit.probing import probe_run
from wmkit.training.command import train_in_folder
from wmkit.training.run_folder import RunFolder
from wmkit.world_model import WorldModel

IMAGINED = 50
"""Steps at a time where the time of one is measured."""


@ends_with_reader
def main(path: Path) -> int:
    """Run the cell of the config at `path`; returns 0 when done, 1 when it failed, 128 + n after signal n."""
    files = CellFiles(path.with_suffix(""))
    try:
        if not files.record().get("tested"):
            config = load_config(path)
            summary = train_in_folder(config, RunFolder(files.run), HeldOutValidation(config))
            if summary.stopped_by is not None:
                return 128 + summary.stopped_by
            memory = max(peak_memory(), files.record().get("peak_memory_bytes", 0))
            files.write(peak_memory_bytes=memory, **costs(load(files.run, LAST)))
            evaluate_run(files.run, checkpoint=LAST)
            files.write(tested=True)
        if (words := probing_of(path)) is not None:
            probe_run(files.run, ProbePlan.of(words), checkpoint=LAST)
        files.write(status=Status.DONE, error=None, probed=words)
    except Exception as error:  # whatever it is, it is recorded and shown, and the other cells go on
        traceback.print_exc()
        files.write(status=Status.FAILED, error=f"{type(error).__name__}: {error}")
        return 1
    return 0


def probing_of(path: Path) -> Mapping[str, str] | None:
    """What the cell of the config at `path` is to be probed for; None: nothing, or it is of no comparison."""
    folder = path.parents[1]
    if not (folder / PLAN).exists():
        return None
    plan = load_plan(folder)
    return next(
        (plan.probing.get(cell.world) for cell in plan.cells() if CellFiles.of(folder, cell).config == path), None
    )


def costs(model: WorldModel) -> dict[str, float]:
    """Of the model: parameters, bytes of one row's state, and milliseconds of one imagined latent step of one row."""
    model.eval()
    state, actions = model.initial_state(1), torch.zeros(1, IMAGINED, model.action_dim, device=model.device)
    with torch.no_grad(), model.prepared():
        seconds = seconds_of(lambda: model.imagine(actions, state), tries=5, repeats=2)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "state_bytes": sum(leaf.nbytes for leaf in tree.leaves(state)),
        "imagined_step_ms": 1000 * seconds / IMAGINED,
    }


def peak_memory() -> int:
    """Most bytes that this process has held: on the accelerator if it has one, else in main memory; 0 on Windows."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes there, KiB elsewhere


def end_with_parent() -> None:
    """Send this process SIGTERM when its standard input ends, as it does when the parent dies."""

    def wait() -> None:
        # Not through sys.stdin: whoever closes that when the interpreter ends would wait for the lock held in here.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(Path(sys.argv[1])))
