"""What a world takes from the machine it is on, and whether it is still what a run was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wmkit.data.worlds import World, find_world

FILE, KEY = "shapes.json", "local_data"
"""Of a run: where it is kept."""


def local_data(world: World) -> dict[str, Any]:
    """What a world's `local_data` names, if it has one: which pictures of digits this machine has, say."""
    return dict(getattr(world, "local_data", {}))


def check_local_data(run: Path, world: str) -> None:
    """Raise `ValueError` where the world would now show a run something else than it was trained on."""
    path = run / FILE
    kept = json.loads(path.read_text(encoding="utf-8")).get(KEY) if path.is_file() else None
    if not kept:
        return
    now = local_data(find_world(world))
    if kept != now:
        raise ValueError(
            f"{run} was trained on {world} with {kept}, which now has {now} on this machine: give it the same again "
            "(for digits: the environment variable WMKIT_MNIST), or train anew"
        )
