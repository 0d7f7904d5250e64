"""`wmkit doctor`: what this installation has, and whether its worlds load."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmkit.data.worlds import find_world, list_worlds
from wmkit.machine import graphics, processor
from wmkit.registry import all_entries

HELP = "What this installation has."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print the table; status 1 when an installed world cannot be loaded."""
    worlds = {name: _try_world(name) for name in list_worlds()}
    rows = {
        "wmkit": metadata.version("wmkit"),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "torch": str(torch.__version__),
        "triton": version("triton"),
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


def version(package: str) -> str:
    """The installed version, without importing the package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _try_world(name: str) -> tuple[bool, str]:
    """Whether the world loads, and its shapes or the error."""
    try:
        world = find_world(name)
    except Exception as error:  # importing runs another package's code
        return False, f"does not load: {type(error).__name__}: {error}"
    return True, f"{world.name}, image {world.image_shape}, {world.action_dim} actions"
