"""`wmkit list`: what `backbone=` can be, and what it costs; what `world=` can be."""

from __future__ import annotations

import argparse

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from wmkit import tree
from wmkit.backbones.base import Backbone, build_backbone
from wmkit.build import build_world_model
from wmkit.data import describe_world, find_world, list_worlds
from wmkit.dynamics import Dynamics
from wmkit.registry import Entry, all_entries

HELP = "What `backbone=` can be, and what it costs; what `world=` can be."
CAPTION = (
    "at size=small (dynamics: with 64x64 images and 6 actions, without encoder and decoder; video models: with both): "
    "parameters; "
    "bytes of state per row, which imagining from every step keeps for every step; "
    "bytes that a training scan keeps per row and step; parallel: does it observe without a loop?"
)

WORLDS_CAPTION = "world.KEY=VALUE sets one of the settings; sizes are those of the defaults"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print three tables; raises `ValueError` for a backbone whose code fails and a world that cannot be loaded."""
    table = Table(box=box.SIMPLE, pad_edge=False, padding=0, caption=CAPTION)
    for heading in ("name", "kind", "parameters", "state", "training", "parallel"):
        table.add_column(heading, no_wrap=True)
    origins = Table(box=box.SIMPLE, pad_edge=False, padding=0)  # beside the numbers they have no room in 80 columns
    origins.add_column("name", no_wrap=True)
    origins.add_column("origin", overflow="fold")
    for entry in sorted(all_entries().values(), key=lambda entry: entry.name):
        table.add_row(entry.name, entry.kind, *_cost(entry))
        origins.add_row(entry.name, entry.origin)
    families: dict[str, list[str]] = {}
    for name in list_worlds():
        families.setdefault(describe_world(find_world(name))["name"], []).append(name)
    worlds = Table(box=box.SIMPLE, pad_edge=False, padding=0, show_lines=True, caption=WORLDS_CAPTION)
    worlds.add_column("world", no_wrap=True)
    worlds.add_column("sizes, settings, names of worlds with other settings", overflow="fold")
    for family, names in families.items():
        world = find_world(family)
        shape = "x".join(map(str, world.image_shape))
        lines = [
            f"image {shape}, actions {world.action_dim}, observations {world.episode_length:,}, "
            f"context {world.context_length:,}",
            "settings: " + (", ".join(key for key in describe_world(world) if key != "name") or "none"),
        ]
        if others := [name for name in names if name != family]:
            lines.append(f"also: {', '.join(others)}")
        worlds.add_row(family, "\n".join(lines))
    Console().print(table, origins, worlds)
    return 0


def _cost(entry: Entry) -> tuple[str, str, str, str]:
    """Parameters, bytes of state per row and of training per step, whether observing needs no loop, at size small."""
    part: Backbone | Dynamics
    if entry.kind != "backbone":
        part = build_world_model(entry.cls, "small").dynamics
    else:
        try:
            part = build_backbone(entry, entry.config.for_size("small"))
        except Exception as error:  # a user's code may raise anything
            how = 'cls(config.input_dim, config.for_size("small"))'
            raise ValueError(f"{entry.name} cannot be built by {how}: {type(error).__name__}: {error}") from error
    parameters = sum(parameter.numel() for parameter in part.parameters())
    state = sum(leaf.nbytes for leaf in tree.leaves(part.initial_state(1)))
    if isinstance(part, Dynamics):
        return f"{parameters:,}", f"{state:,}", "-", "-"
    parallel = "no" if part.default_posterior == "filtering" else "yes"
    return f"{parameters:,}", f"{state:,}", _training_bytes(part), parallel


def _training_bytes(backbone: Backbone) -> str:
    """Bytes that a scan saves for its backward pass, per row and step: what another 64 steps add."""

    def saved(length: int) -> int:
        storages: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            backbone.scan(torch.zeros(1, length, backbone.input_dim), return_state=False)
        return sum(storage.nbytes() for storage in storages.values())

    try:
        return f"{(saved(128) - saved(64)) // 64:,}"
    except Exception:  # a user's code may raise anything; `wmkit check` says what is wrong
        return "fails"
