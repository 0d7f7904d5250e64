"""The `wmkit` command: list, check, doctor, imagine, video, levels, report."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmkit import tree
from wmkit.backbones.base import Backbone
from wmkit.backbones.build import build_backbone
from wmkit.build import build_world_model
from wmkit.cli import check as check_cli
from wmkit.cli import imagine as imagine_cli
from wmkit.cli import levels as levels_cli
from wmkit.cli import video as video_cli
from wmkit.data.worlds import find_world, list_worlds
from wmkit.dynamics import Dynamics
from wmkit.machine import graphics, processor
from wmkit.registry import Entry, all_entries


class Verb(NamedTuple):
    """One thing that `wmkit` does."""

    help: str
    run: Callable[[argparse.Namespace], int]
    """Does it and returns the exit status; a `ValueError` is the user's: printed without a trace, status 2."""
    arguments: Callable[[argparse.ArgumentParser], object] = lambda parser: None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns 0 when all is well, 1 when something is broken, 2 when the command makes no sense."""
    parser = argparse.ArgumentParser(prog="wmkit", description="World models with interchangeable sequence backbones.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        verb.arguments(verbs.add_parser(name, help=verb.help, description=verb.help))
    arguments = parser.parse_args(argv)
    try:
        return VERBS[arguments.verb].run(arguments)
    except ValueError as error:
        print(f"wmkit {arguments.verb}: {error}", file=sys.stderr)
        return 2


def list_parts(arguments: argparse.Namespace) -> int:
    """Print what `backbone=` can be."""
    table = Table(box=box.SIMPLE, pad_edge=False, padding=0)
    for heading in ("name", "kind", "parameters", "state", "training", "parallel"):
        table.add_column(heading, no_wrap=True)
    table.add_column("origin", overflow="fold")
    for entry in sorted(all_entries().values(), key=lambda entry: entry.name):
        table.add_row(entry.name, entry.kind, *_cost(entry), entry.origin)
    table.caption = (
        "at size=small (dynamics: with 64x64 images and 6 actions, without encoder and decoder): parameters; "
        "bytes of state per row, which imagining from every step keeps for every step; "
        "bytes that a training scan keeps per row and step; parallel: does it observe without a loop?"
    )
    Console().print(table)
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Say what this installation has; status 1 when an installed world cannot be loaded."""
    worlds = {name: _world(name) for name in list_worlds()}
    rows = {
        "wmkit": metadata.version("wmkit"),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "torch": str(torch.__version__),
        "triton": _version("triton"),
        "opt-einsum": "used by torch" if torch.backends.opt_einsum.is_available() else "not found",
        "GPUs": ", ".join(graphics()) or "none",
        "processor": f"{processor()}; {torch.get_num_threads()} threads",
        "backbones": ", ".join(sorted(all_entries())),
        **{f"world {name}": verdict for name, (_, verdict) in worlds.items()},
    }
    table = Table(show_header=False)
    for key, value in rows.items():
        table.add_row(key, escape(value))
    Console().print(table)
    return 0 if all(loads for loads, _ in worlds.values()) else 1


def report(arguments: argparse.Namespace) -> int:
    """Write the report of a comparison again, from its folder; trains nothing."""
    from wmkit.comparison.report import write_report  # brings Hydra and TensorBoard, which no other verb needs

    print(write_report(arguments.folder))
    return 0


VERBS = {
    "list": Verb("What `backbone=` can be, and what it costs.", list_parts),
    "check": Verb(
        "Try the ten laws of the contract, of a backbone or of dynamics.", check_cli.check, check_cli.add_arguments
    ),
    "doctor": Verb("What this installation has.", doctor),
    "imagine": Verb(
        "Truth beside imagination, for some held-out episodes of a run, as a GIF.",
        imagine_cli.imagine,
        imagine_cli.add_arguments,
    ),
    "video": Verb(
        "Open-loop frames of a run against the horizon: SSIM, PSNR, digits, beside floors that know nothing.",
        video_cli.video,
        video_cli.add_arguments,
    ),
    "levels": Verb(
        "What the levels of a trained clockwork hierarchy hold: KL, entropy, resets, samples, speeds, times.",
        levels_cli.levels,
        levels_cli.add_arguments,
    ),
    "report": Verb(
        "The tables and the page of a comparison, from its folder.",
        report,
        lambda parser: parser.add_argument("folder", type=Path, help="out= of the comparison"),
    ),
}


def _cost(entry: Entry) -> tuple[str, str, str, str]:
    """Parameters, bytes of state per row and of training per step, whether observing needs no loop, at size small."""
    if entry.kind == "video_model":
        return "-", "-", "-", "-"
    part = _build(entry, "small") if entry.kind == "backbone" else build_world_model(entry.cls, "small").dynamics
    parameters = sum(parameter.numel() for parameter in part.parameters())
    state = sum(leaf.nbytes for leaf in tree.leaves(part.initial_state(1)))
    if isinstance(part, Dynamics):
        return f"{parameters:,}", f"{state:,}", "-", "-"
    parallel = "no" if part.default_posterior == "filtering" else "yes"
    return f"{parameters:,}", f"{state:,}", _training_bytes(part), parallel


def _training_bytes(backbone: Backbone) -> str:
    """Bytes that a scan keeps for its backward pass, per row and step: what another 64 steps add."""

    def kept(length: int) -> int:
        found: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            backbone.scan(torch.zeros(1, length, backbone.input_dim), return_state=False)
        return sum(storage.nbytes() for storage in found.values())

    try:
        return f"{(kept(128) - kept(64)) // 64:,}"
    except Exception:  # a user's code may raise anything; `wmkit check` says what is wrong
        return "fails"


def _build(entry: Entry, size: str) -> Backbone:
    """The entry at a size; raises `ValueError` where its code fails."""
    try:
        return build_backbone(entry, entry.config.for_size(size))
    except Exception as error:  # a user's code may raise anything
        how = f'cls(config.input_dim, config.for_size("{size}"))'
        raise ValueError(f"{entry.name} cannot be built by {how}: {type(error).__name__}: {error}") from error


def _version(package: str) -> str:
    """The installed version, without importing the package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _world(name: str) -> tuple[bool, str]:
    """Does the world load, and what it is or why it does not."""
    try:
        world = find_world(name)
    except Exception as error:  # importing runs another package's code
        return False, f"does not load: {type(error).__name__}: {error}"
    return True, f"{world.id}, image {world.image_shape}, {world.action_dim} actions"


if __name__ == "__main__":
    sys.exit(main())
