"""Where figures go: JSON lines always, TensorBoard beside them, and the running mean that feeds both."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from wmkit.training.run_folder import write_whole


class JsonLines:
    """One JSON object per line: {"step": 10, "split": "train", "values": {...}}."""

    def __init__(self, path: Path, last_step: int = 0) -> None:
        """Append to `path`, after dropping the lines of steps beyond `last_step`: those will be trained again."""
        _keep_until(path, last_step)
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Append one line and hand it to the operating system."""
        self._file.write(json.dumps({"step": step, "split": split, "values": dict(values)}) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Have the disk hold every line: a checkpoint must not be newer than its metrics."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Scalars split/name for TensorBoard; curves of a resumed run are cut back to its checkpoint."""

    def __init__(self, path: Path, last_step: int = 0) -> None:
        self._writer = SummaryWriter(str(path), purge_step=last_step + 1 if last_step else None)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """One scalar per value."""
        for name, value in values.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Write out and close the event file."""
        self._writer.close()


class RunningMean:
    """Means of named scalars since the last `take`; sums stay on the device, so adding waits for nothing."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one step's scalars."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means; starts over."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """Sums and count, for a checkpoint between two log lines."""
        return {"sums": {name: value.cpu() for name, value in self.sums.items()}, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """What `state_dict` gave, on `device`."""
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.count = state["count"]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file; a last line that a crash cut short is passed over, any other is an error."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is not JSON: {line!r:.80}") from error


def _keep_until(path: Path, last_step: int) -> None:
    kept = [record for record in read_lines(path) if record["step"] <= last_step]
    write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))
