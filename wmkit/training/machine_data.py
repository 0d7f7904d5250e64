"""What a world shows of the machine it is on, such as a local copy of MNIST; a run is judged on the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wmkit.data.worlds import World

SHAPES, KEY = "shapes.json", "local_data"
"""The file of a run that keeps it, and under which name."""


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
        return json.loads((run / SHAPES).read_text(encoding="utf-8")).get(KEY)
    except (OSError, ValueError):  # whoever needs the shapes says what is wrong with the file
        return None
