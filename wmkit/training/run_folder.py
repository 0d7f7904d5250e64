"""The folder of one run: its name, its lock, and the files that say what the run was.

config.json  shapes.json  versions.json  finished.json
metrics.jsonl  timing.jsonl  checkpoints/  tensorboard/  pictures/
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import unicodedata
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import BaseFileLock, SoftFileLock, Timeout

from wmkit.config import RunConfig
from wmkit.data.worlds import World
from wmkit.files import file_name, hold_lock, write_json, write_text
from wmkit.machine import graphics, processor

ROOT = Path("runs")
CONFIG, SHAPES, VERSIONS, FINISHED = "config.json", "shapes.json", "versions.json", "finished.json"
SAVED = "saved.json"
"""What `wmkit.save` wrote has it beside the config: {"world"}, whether the config's world was given to it."""
LOCAL_DATA = "local_data"
"""Under this name `SHAPES` keeps what the world shows of the machine, such as a local copy of MNIST."""
LOCK, HOLDER = "lock", "process"
OWN = frozenset({LOCK, f"{LOCK}.held", HOLDER})
"""What a folder has as soon as it is open: its lock, and the process that holds it."""
PACKAGES = ("wmkit", "torch", "numpy", "triton", "accelerate", "safetensors", "zarr")
COMPUTING = ("ATEN_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "GOMP_", "KMP_", "MKL_", "NUMBA_", "NVIDIA_", "OMP_",
             "ONEDNN_", "OPENBLAS_", "PYTORCH_", "TORCH_", "TRITON_", "WMKIT_")  # fmt: skip
"""How the variables begin that `versions` keeps."""


class RunFolder:
    """An open run folder: this process alone writes to it until `close`, or until it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BaseFileLock | None = None

    def open(self) -> None:
        """Make the folder and lock it; raises `ValueError` naming the process that holds it.

        The operating system ends the lock with its process, however that ends, and data workers do not inherit it: no
        stale lock stays behind, but where the file system has none (`wmkit.files.hold_lock`).
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = hold_lock(self.path / LOCK)
        except Timeout as error:
            path = self.path / HOLDER
            holder = f"process {path.read_text(encoding='utf-8')}" if path.exists() else "another process"
            marker = Path(error.lock_file)
            stale = f" If there is no such process any more, delete {marker}." if marker.name != LOCK else ""
            raise ValueError(
                f"{self.path} is in use by {holder}. Wait for it or choose another folder.{stale}"
            ) from error
        write_text(self.path / HOLDER, f"{os.getpid()} on {platform.node()}")

    def close(self) -> None:
        """Release the lock; a folder that nothing was written to is removed."""
        if self._lock is None:
            return
        empty = {entry.name for entry in self.path.iterdir()} <= OWN
        if os.name == "nt" or isinstance(self._lock, SoftFileLock):  # no open file can be removed there
            self._lock.release()
        for name in OWN if empty else {HOLDER}:
            (self.path / name).unlink(missing_ok=True)
        if empty:
            self.path.rmdir()
        self._lock.release()
        self._lock = None

    def describe(self, config: RunConfig, image_shape: tuple[int, int, int], action_dim: int) -> None:
        """Write what the run is: config, shapes of the data, and for this start versions, commit and command line.

        With the shapes, the model can be built again where the data are not. Beside them stand data of this machine
        that the world shows, as they were at the first start; of a run on archives that is none.
        """
        shapes: dict[str, Any] = {"image_shape": image_shape, "action_dim": action_dim}
        began = (self.path / SHAPES).exists()
        worldless = config.data.source is not None and config.data.valid_source is not None
        kept = kept_local_data(self.path) if began or worldless else local_data(config.world)
        write_json(self.path / CONFIG, config.to_dict())
        write_json(self.path / SHAPES, shapes if kept is None else shapes | {LOCAL_DATA: kept})
        path = self.path / VERSIONS
        before = json.loads(path.read_text(encoding="utf-8"))["starts"] if path.exists() else []
        write_json(path, {"starts": [*before, versions()]})

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run finished: its name is then not used again by a new one."""
        write_json(self.path / FINISHED, summary)

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step."""
        return (self.path / FINISHED).exists()

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """JSON lines {step, split, values}: the same for every run of this config and seed on this machine."""
        return self.path / "metrics.jsonl"

    @property
    def timing(self) -> Path:
        """JSON lines of what differs from run to run: frames/s, share of time spent waiting for data."""
        return self.path / "timing.jsonl"

    @property
    def pictures(self) -> Path:
        """Folder of what is drawn at validations and by the evaluation."""
        return self.path / "pictures"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"


def choose_folder(config: RunConfig, recipe: str, root: Path = ROOT) -> tuple[RunFolder, str]:
    """The folder that `config` asks for, and a sentence that says which and why.

    `run_dir` names it, and an existing one is refused unless `resume`. Else it is `root`/recipe-world-backbone-seed,
    with -2, -3, ... for later runs; `resume` takes the newest unfinished of these. Raises `ValueError` when refused.
    """
    if config.run_dir is not None:
        return _named_folder(Path(config.run_dir), config.resume)
    name = file_name("-".join((recipe, config.label, config.backbone_name, str(config.seed))))
    taken = _numbered(root, name)
    unfinished = [
        number
        for number, folder in taken.items()
        if not folder.finished and _nfc(folder.path.name).startswith(_nfc(name))
    ]
    if config.resume and unfinished:
        return taken[max(unfinished)], f"Resuming {taken[max(unfinished)].path}"
    number = max(taken, default=0) + 1
    folder = RunFolder(root / (name if number == 1 else f"{name}-{number}"))
    if config.resume:
        return folder, f"Nothing to resume: no run of the name {root / name} is unfinished. Run folder {folder.path}"
    if unfinished:
        return (
            folder,
            f"Run folder {folder.path} ({taken[max(unfinished)].path} is unfinished; resume=true continues it)",
        )
    return folder, f"Run folder {folder.path}"


def _named_folder(path: Path, resume: bool) -> tuple[RunFolder, str]:
    if not path.exists():
        return RunFolder(path), f"Nothing to resume in {path}: a new run" if resume else f"Run folder {path}"
    if not path.is_dir():
        raise ValueError(f"run_dir={path} is not a folder.")
    names = {entry.name for entry in path.iterdir()}
    if names and not resume:
        raise ValueError(
            f"run_dir={path} exists. Nothing was changed: name another, or add resume=true to continue it."
        )
    # A run that was killed at its very start has left its lock alone.
    if names - OWN and CONFIG not in names:
        raise ValueError(f"run_dir={path} holds no run: it has no {CONFIG}. Nothing was changed: name another.")
    folder = RunFolder(path)
    ended = ", which has reached its last step" if folder.finished else ""
    return folder, f"Resuming {path}{ended}" if resume else f"Run folder {path}"


def _numbered(root: Path, name: str) -> dict[int, RunFolder]:
    """Existing folders `name`, `name-2`, `name-3`, ... by number, also those that differ in capitals alone.

    On many disks of macOS and Windows these are the same folder.
    """
    found = {}
    pattern = rf"{re.escape(_nfc(name).casefold())}(?:-([2-9]|[1-9]\d+))?"
    there = root.iterdir() if root.is_dir() else ()
    for path in sorted(there, key=lambda path: _nfc(path.name).startswith(_nfc(name))):  # its own win over the others
        match = re.fullmatch(pattern, _nfc(path.name).casefold())
        if match:
            found[int(match.group(1) or 1)] = RunFolder(path)
    return found


def _nfc(text: str) -> str:
    """`text` with its accents as parts of their letters: some disks of macOS give names back with the two apart."""
    return unicodedata.normalize("NFC", text)


def local_data(world: World) -> dict[str, Any]:
    """What `world.local_data` says, in JSON's types; nothing for a world without."""
    return json.loads(json.dumps(world.local_data)) if hasattr(world, "local_data") else {}


def check_local_data(run: Path, world: World) -> None:
    """Raise `ValueError` where the world of a run now shows other data of this machine than the run began with."""
    kept = kept_local_data(run)
    if kept is None:
        return
    now = local_data(world)
    if kept != now:
        raise ValueError(
            f"{run} was trained on {world.name} with {kept}, and on this machine it has {now}: let it have the same "
            "again (docs/worlds.md says from where), or train anew"
        )


def kept_local_data(run: Path) -> dict[str, Any] | None:
    """What the run began with; None where it does not say so: a new run, or one of an older version."""
    try:
        return json.loads((run / SHAPES).read_text(encoding="utf-8")).get(LOCAL_DATA)
    except (OSError, ValueError):  # whoever needs the shapes says what is wrong with the file
        return None


def versions() -> dict[str, Any]:
    """Python, the machine, versions of what decides the numbers, the git commit if there is one, the command line.

    Also the threads of this start and the variables of its environment by which libraries choose how they compute:
    sums in another order differ in their last bits.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "gpus": graphics(),
        **{name: _version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "environment": {key: value for key, value in sorted(os.environ.items()) if key.startswith(COMPUTING)},
        "commit": _commit(),
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the code, with `+changes` when the working tree differs from it; None outside a repository.

    An installed package may lie in somebody else's repository, as in the virtual environment of a project: a commit is
    the code's where git knows this file.
    """
    here = Path(__file__)
    foreign = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}  # as inside of a hook

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=here.parent, env=foreign, capture_output=True, text=True, check=True, errors="replace"
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
