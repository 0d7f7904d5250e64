"""One cell in a process of its own: `python -m wmkit.comparison.worker COMPARISON/cells/NAME.json`.

Trains from the newest checkpoint, if there is one, then tests the last one. What it found, or why it failed, goes to
the cell's files. It ends when its parent does: the parent holds the other end of its standard input.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import torch

from wmkit.comparison.plan import CellFiles, Status
from wmkit.config import load_config
from wmkit.evaluation import HeldOutValidation, evaluate_run
from wmkit.loading import LAST, load
from wmkit.pipe import ends_with_reader
from wmkit.training.command import train_in_folder
from wmkit.training.run_folder import RunFolder


@ends_with_reader
def main(path: Path) -> int:
    """Run the cell of the config at `path`; returns 0 when done, 1 when it failed, 128 + n after signal n."""
    files = CellFiles(path.with_suffix(""))
    try:
        config = load_config(path)
        summary = train_in_folder(config, RunFolder(files.run), HeldOutValidation(config))
        if summary.stopped_by is not None:
            return 128 + summary.stopped_by
        memory = max(peak_memory(), files.record().get("peak_memory_bytes", 0))
        parameters = sum(parameter.numel() for parameter in load(files.run, LAST).parameters())
        files.write(parameters=parameters, peak_memory_bytes=memory)
        evaluate_run(files.run, checkpoint=LAST)
        files.write(status=Status.DONE, error=None)
    except Exception as error:  # whatever it is, it is recorded and shown, and the other cells go on
        traceback.print_exc()
        files.write(status=Status.FAILED, error=f"{type(error).__name__}: {error}")
        return 1
    return 0


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
