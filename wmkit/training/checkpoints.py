"""Checkpoints: all or nothing on disk, checked when read.

    checkpoints/step-00000100/model.safetensors    weights alone, what is shared
                              training.pt          optimiser, schedule, sampler, carried state, random states
                              manifest.json        format, step, config, size and sha256 of each file
    checkpoints/best -> step-00000100              lowest validation loss; a file with this name where no links are

A checkpoint is written to a hidden folder, synced, and renamed into place: a reader sees a whole one or none.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from wmkit.files import sync, write_json, write_text

FORMAT = 1
WEIGHTS, TRAINING, MANIFEST = "model.safetensors", "training.pt", "manifest.json"
BEST = "best"


class CheckpointCorrupt(ValueError):
    """A checkpoint whose files are not what its manifest says."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds; `load` of it was verified."""

    step: int
    config: dict[str, Any]
    weights: dict[str, Tensor]
    training: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one run: the newest `keep_last` and the best."""

    def __init__(self, path: Path, keep_last: int = 2) -> None:
        self.path = path
        self.keep_last = keep_last

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        names = [entry.name for entry in self.path.iterdir() if entry.is_dir()] if self.path.is_dir() else []
        return sorted(int(name.removeprefix("step-")) for name in names if re.fullmatch(r"step-\d{8,}", name))

    def folder(self, step: int) -> Path:
        """Where the checkpoint of `step` is, or would be."""
        return self.path / f"step-{step:08d}"

    def best(self) -> Path | None:
        """The checkpoint of lowest validation loss."""
        link = self.path / BEST
        if link.is_dir():
            return link.resolve()
        named = self.path / link.read_text(encoding="utf-8").strip() if link.is_file() else link
        return named.resolve() if named.is_dir() else None

    def save(self, checkpoint: Checkpoint, is_best: bool = False) -> Path:
        """Commit `checkpoint`, mark it best if it is, and remove what need not be kept.

        Raises `OSError` when the disk refuses; what was there before is untouched then.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.clean()
        final = self.folder(checkpoint.step)
        temporary = self.path / f".{final.name}"
        try:
            _write(temporary, checkpoint)
            if final.exists():  # only when a run was resumed from an earlier step
                shutil.rmtree(final)
            os.rename(temporary, final)
        except Exception as error:
            refused = _disk_error(error)
            if refused is None:
                raise
            reason = "the disk is full" if refused.errno == errno.ENOSPC else refused.strerror
            raise OSError(
                refused.errno,
                f"Could not save the checkpoint of step {checkpoint.step}: {reason}. Earlier ones in {self.path} are "
                "intact; make room, or mend what the system named, and continue with resume=true.",
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync([self.path])
        if is_best:
            self._mark_best(final.name)
        # Later steps than this one are what a resumed run passed over: they are not counted, and written again.
        best = self.best()
        for step in [step for step in self.steps() if step <= checkpoint.step][: -self.keep_last]:
            if best is None or self.folder(step).resolve() != best:
                shutil.rmtree(self.folder(step))
        return final

    def _mark_best(self, name: str) -> None:
        """Link to the checkpoint `name`; where the file system or Windows has no links, a file holds its name."""
        link, best = self.path / f".{BEST}", self.path / BEST
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(name)
        except (OSError, NotImplementedError):  # whatever the reason: a disk that refuses the file too says so itself
            write_text(link, name + "\n", durable=True)
        if best.is_dir() and not best.is_symlink():  # a copy that was made of the run took the link for its folder
            shutil.rmtree(best)
        os.replace(link, best)

    def load_newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole; each corrupt one that was passed over is reported to `warn`.

        Raises `CheckpointCorrupt` when there are checkpoints and none is whole.
        """
        failures: list[CheckpointCorrupt] = []
        for step in reversed(self.steps()):
            try:
                return load_checkpoint(self.folder(step))
            except CheckpointCorrupt as error:
                failures.append(error)
                warn(f"{error} Falling back to the checkpoint before it.")
        if failures:
            raise CheckpointCorrupt(
                f"No whole checkpoint is left in {self.path}; the newest: {failures[0]} Restore one from a copy, or "
                "start a run in another folder."
            ) from failures[0]
        return None

    def clean(self) -> None:
        """Remove what a save that was killed left behind."""
        for leftover in self.path.glob(".step-*"):
            shutil.rmtree(leftover)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify one checkpoint folder; raises `CheckpointCorrupt` naming the file that is wrong."""
    manifest = verify(folder)
    return Checkpoint(
        step=manifest["step"],
        config=manifest["config"],
        weights=_read(folder / WEIGHTS, safetensors.torch.load_file),
        training=_read(folder / TRAINING, lambda path: torch.load(path, map_location="cpu", weights_only=True)),
    )


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The verified weights of one checkpoint folder, without the optimiser's state."""
    verify(folder)
    return _read(folder / WEIGHTS, safetensors.torch.load_file)


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, after comparing every file with it; raises `CheckpointCorrupt`."""
    manifest = _read(folder / MANIFEST, lambda path: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointCorrupt(f"{folder / MANIFEST}: expected format {FORMAT}, got {manifest!r:.80}.")
    for key in ("step", "config", "files"):
        if key not in manifest:
            raise CheckpointCorrupt(f"{folder / MANIFEST} lacks {key!r}.")
    for path in (folder / WEIGHTS, folder / TRAINING):
        promised = manifest["files"].get(path.name, {})
        if not path.exists():
            raise CheckpointCorrupt(f"{path} is missing.")
        size = path.stat().st_size
        if size != promised.get("bytes"):
            raise CheckpointCorrupt(f"{path} has {size} bytes, its manifest says {promised.get('bytes')}.")
        if _sha256(path) != promised.get("sha256"):
            raise CheckpointCorrupt(f"{path} was altered: its sha256 is not the manifest's.")
    return manifest


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except Exception as error:
        raise CheckpointCorrupt(f"{path} cannot be read: {error}.") from error


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    folder.mkdir()
    # Copies: safetensors refuses tensors that share memory, and a backbone may tie its weights.
    weights = {key: value.clone(memory_format=torch.contiguous_format) for key, value in checkpoint.weights.items()}
    # Through Python's files, whose errors say what the disk said.
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(weights))
    with (folder / TRAINING).open("wb") as file:
        torch.save(checkpoint.training, file)
    paths = (folder / WEIGHTS, folder / TRAINING)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in paths}
    manifest = {"format": FORMAT, "step": checkpoint.step, "config": checkpoint.config, "files": files}
    write_json(folder / MANIFEST, manifest)
    sync([*paths, folder / MANIFEST])
    sync([folder])


def _disk_error(error: BaseException | None) -> OSError | None:
    """The system's error behind `error`: torch.save raises a RuntimeError of its own over it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
