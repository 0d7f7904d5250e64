"""`wmkit doctor`: what this installation has, and what works here: each thing is tried, nothing is only looked up."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, SoftFileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmkit.build import build_world_model
from wmkit.data.loader import read_in_order
from wmkit.data.sources import GeneratedEpisodes
from wmkit.data.worlds import World, find_world, list_worlds
from wmkit.files import hold_lock, write_text
from wmkit.machine import graphics, processor
from wmkit.registry import all_entries
from wmkit.weights import all_weights, find_weights, open_weights
from wmkit_kernels.dplr_scan import cpu

TRITON = "; the kernels of a GPU need it: pip install 'wmkit[gpu]'"
HELP = "What this installation has, and what works on this machine: each thing is tried."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder to try."""
    parser.add_argument("--folder", type=Path, default=Path(), help="where runs are to be kept (default: here)")


def run(arguments: argparse.Namespace) -> int:
    """Print what there is and what came of every trial; status 1 when one failed."""
    folder: Path = arguments.folder.absolute()
    while not folder.exists():  # a run would make it
        folder = folder.parent
    facts = {
        "wmkit": version("wmkit"),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "torch": str(torch.__version__),
        "triton": version("triton") + ("" if importlib.util.find_spec("triton") else TRITON),
        "GPUs": ", ".join(graphics()) or "none",
        "processor": f"{processor()}; {torch.get_num_threads()} threads",
        "output": f"{getattr(sys.stdout, 'encoding', None)}",
    }
    worlds: list[World] = []
    trials: dict[str, Callable[[], str]] = {
        "writing": partial(_write, folder),
        "locks": partial(_lock, folder),
        "links": partial(_link, folder),
        "backbones": lambda: ", ".join(sorted(all_entries())),
        **{f"a step, {device}": partial(_train, device) for device in _devices()},
        "Numba": _compile,
        "TensorBoard": _tensorboard,
        "weights": _weights,
        **{f"world {name}": partial(_draw, name, worlds) for name in _names()},
        "a worker": partial(_work, worlds),
    }
    table = Table(show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for key, fact in facts.items():
        table.add_row(key, "", escape(fact))
    failed = 0
    said: dict[str, str] = {}
    for key, trial in trials.items():
        try:
            verdict, sentence = "works", trial()
        except _Absent as reason:
            verdict, sentence = "absent", str(reason)
        except Exception as error:  # whatever it is, it is what there is to know
            failed += 1
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            verdict, sentence = "FAILS", f"{kind}{error}"
            sentence = f"as {said[sentence]}" if sentence in said else sentence
            said.setdefault(sentence, key)
        table.add_row(key, verdict, escape(sentence))
    console = Console()
    console.print(table)
    if failed:
        console.print(f"{failed} of {len(trials)} fail; what to do stands beside them.", highlight=False)
    return 1 if failed else 0


class _Absent(Exception):
    """What is tried needs an extra that is not installed; says how to install it."""


def version(package: str) -> str:
    """The installed version, without importing the package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _write(folder: Path) -> str:
    """Files as runs, archives and caches write and read them."""
    try:
        with tempfile.TemporaryDirectory(prefix=".wmkit-", dir=folder) as place:
            path = Path(place) / "a file"
            for text in ("one", "two"):
                write_text(path, text, durable=True)
            np.save(Path(place) / "numbers.npy", np.arange(3))
            mapped = np.load(Path(place) / "numbers.npy", mmap_mode="r")
            assert path.read_text(encoding="utf-8") == "two", f"{folder}: a file that was replaced is still the old one"
            assert mapped.tolist() == [0, 1, 2], f"{folder}: a file that is mapped into memory has other numbers"
            del mapped
    except OSError as error:
        raise ValueError(
            f"{folder} does not take files ({error.strerror}). Make room or give yourself the right to write, or keep "
            "runs elsewhere: run_dir=FOLDER"
        ) from error
    return f"files in {folder}"


def _lock(folder: Path) -> str:
    """A lock that nobody else gets until it is released."""
    with tempfile.TemporaryDirectory(prefix=".wmkit-", dir=folder) as place, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a file that stands for a lock
        held = hold_lock(Path(place) / "lock")
        try:
            works = not isinstance(held, SoftFileLock)
            if works:
                FileLock(held.lock_file, thread_local=False).acquire(blocking=False).lock.release()
                works = False  # that should have been refused
        except Timeout:
            works = True
        finally:
            held.release()
    if not works:
        raise ValueError(
            f"{folder} has no locks. Runs and archives go on with a file in place of a lock, which a process that is "
            "killed leaves behind; on NFS start its lock daemon, or keep runs on a disk of this machine"
        )
    return "one process at a time writes to a run or an archive"


def _link(folder: Path) -> str:
    """A link to a folder beside it."""
    try:
        with tempfile.TemporaryDirectory(prefix=".wmkit-", dir=folder) as place:
            (Path(place) / "step").mkdir()
            (Path(place) / "best").symlink_to("step")
            assert (Path(place) / "best").is_dir(), f"{folder}: a link leads nowhere"
    except (OSError, NotImplementedError) as error:
        raise ValueError(
            f"{folder} has no symbolic links ({error}). A file checkpoints/best then holds the name of the best "
            "checkpoint, and all commands read it; on Windows the developer mode allows links"
        ) from error
    return "checkpoints/best is a link"


def _devices() -> list[str]:
    """The CPU, and the accelerator that a run would take."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return ["cpu", *([str(found)] if found is not None else [])]


def _train(device: str) -> str:
    """One step of the smallest S4 model: forwards, backwards, an update."""
    model = build_world_model(backbone="s4", size="tiny", image_shape=(3, 32, 32), action_dim=2).to(device)
    optimiser = torch.optim.AdamW(model.parameters())
    image = torch.zeros(2, 8, 3, 32, 32, dtype=torch.uint8, device=device)
    seen, _ = model.observe(image, torch.zeros(2, 8, 2, device=device), noise=model.draw_noise(2, 8))
    loss = model.decode(seen.features).square().mean()
    torch.autograd.backward(loss)
    optimiser.step()
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise ValueError(f"a step on {device} gives numbers that are not finite: reinstall torch for this machine")
    return "the smallest S4 model"


def _compile() -> str:
    """A function, and the step of S4; and whether a folder keeps the machine code."""
    import numba
    from numba.core.caching import FunctionCache

    assert numba.njit(_one_more)(1) == 2, "Numba makes wrong code"
    if reason := cpu.why_never():
        raise ValueError(f"{reason}: S4's steps are PyTorch's operations, which are slower; nothing else needs it")
    from wmkit_kernels.dplr_scan.cpu.numba_impl import has_a_place

    try:
        if not has_a_place(_one_more):
            raise RuntimeError("the packages are read-only, and there is no home")
        place = FunctionCache(_one_more).cache_path
    except RuntimeError as error:
        raise ValueError(
            f"compiles, but no folder keeps the code ({error}), so that every process compiles again, which takes half "
            "a minute: let NUMBA_CACHE_DIR name a folder that you may write to"
        ) from error
    return f"compiles, and keeps the code in folders such as {place}"


def _one_more(number: int) -> int:
    return number + 1


def _tensorboard() -> str:
    """Its writer."""
    try:
        importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise ValueError(f"{error}: pip install tensorboard. Runs go on without, in metrics.jsonl") from error
    return version("tensorboard")


def _weights() -> str:
    """Every published file that is here is verified."""
    here = [name for name in all_weights() if find_weights(name) is not None]
    for name in here:
        with open_weights(name):
            pass
    missing = [name for name in all_weights() if name not in here]
    found = f"as published: {', '.join(here)}" if here else "none of LPIPS and FVD"
    if missing:
        raise _Absent(f"{found}; missing: {', '.join(missing)}, see docs/evaluation.md")
    return found


def _names() -> list[str]:
    """The worlds to try; `*`, which is none and says why, where an installed package does not load."""
    try:
        return list_worlds()
    except ValueError:
        return ["*"]


def _draw(name: str, worlds: list[World]) -> str:
    """The first observation of the world's first episode; `worlds` gains the world."""
    world = find_world(name)
    if missing := getattr(world, "missing", ""):
        raise _Absent(missing)
    steps = world.generate(seed=0, length=1).steps
    height, width, channels = steps["image"].shape[1:]
    if (channels, height, width) != tuple(world.image_shape):
        raise ValueError(f"draws images {(channels, height, width)}, and says {world.image_shape}: mend the world")
    worlds.append(world)
    by = getattr(world, "drawn_by", "")
    return f"{world.name}, image {world.image_shape}, {world.action_dim} actions" + (f", drawn by {by}" if by else "")


def _work(worlds: list[World]) -> str:
    """An episode from a process of its own."""
    if not worlds:
        raise ValueError("no world works, so that there is nothing for it to do")
    [episode] = read_in_order(GeneratedEpisodes(worlds[0], seed=0, length=2), range(1), workers=1)
    return f"{episode.length} observations of {worlds[0].name}"
