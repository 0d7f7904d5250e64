"""All worlds by name, and by id those that are Gymnasium environments, which are registered here."""

from __future__ import annotations

import difflib
from typing import Any

import gymnasium

from wmkit_envs.grid.distracting_memory import DistractingMemory
from wmkit_envs.grid.hidden_motion import HiddenMotion
from wmkit_envs.grid.multi_doors_keys import MultiDoorsKeys
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.maze3d.hidden_motion import RayHiddenMotion
from wmkit_envs.maze3d.look_around import LookAround
from wmkit_envs.maze3d.worlds import MemoryMaze, RayMaze, RayWorld, Rooms
from wmkit_envs.video.bouncing_balls import BouncingBalls
from wmkit_envs.video.moving_mnist import FAST, SLOW, MovingMnist
from wmkit_envs.world import Episode, World

FAMILIES: dict[str, type[World]] = {
    "ray_maze": RayMaze,
    "memory_maze": MemoryMaze,
    "rooms": Rooms,
    "look_around": LookAround,
    "ray_hidden_motion": RayHiddenMotion,
    "distracting_memory": DistractingMemory,
    "multi_doors_keys": MultiDoorsKeys,
    "hidden_motion": HiddenMotion,
    "moving_mnist": MovingMnist,
    "bouncing_balls": BouncingBalls,
}
"""A dataclass of settings each; its defaults are a published world."""
_published: tuple[World, ...] = (
    *(RayMaze(size=size) for size in (9, 11, 13, 15)),
    *(MemoryMaze(size=size) for size in (9, 11, 13, 15)),
    *(Rooms(rooms=rooms, teleport=teleport) for teleport in (False, True) for rooms in (2, 4, 10)),
    *(Rooms(rooms=rooms, longer=True) for rooms in (2, 4)),
    LookAround(),
    RayHiddenMotion(),
    *(DistractingMemory(width=width) for width in (100, 200, 400)),
    *(MultiDoorsKeys(keys=keys) for keys in (3, 5, 7)),
    HiddenMotion(),
    *(MovingMnist(speed=speed) for speed in (1.0, SLOW, FAST)),
    BouncingBalls(),
)
PUBLISHED: dict[str, World] = {world.name: world for world in _published}
"""Worlds in their published sizes, and those of our own design in the sizes of docs/worlds.md."""
WORLDS: dict[str, type[World] | World] = {**PUBLISHED, **FAMILIES}
"""What the entry point of the group `wmkit.worlds` offers."""
VARIANTS: dict[str, dict[str, Any]] = {
    "Vis": {"visible": True},
    "HD": {"image_size": 256},
    "Top": {"image_size": 256, "from_above": True},
    "Oracle": {"oracle": True},
    "HiFreq": {"frequency": 40},
    "6CL": {"six_colors": True},
}
"""Settings by what Memory Maze calls them."""
_variants = (
    *("", "Vis", "HD", "Top", "Oracle", "Oracle-Top", "HiFreq", "HiFreq-Vis", "HiFreq-HD", "6CL", "6CL-Top"),
    *("ExtraObs", "ExtraObs-Vis", "ExtraObs-Top", "Oracle-ExtraObs", "6CL-ExtraObs"),
)
ENVIRONMENTS: dict[str, RayWorld | GridWorld] = {
    "wmkit/RayMaze-v0": RayMaze(),
    **{f"wmkit/RayMaze-{size}x{size}-v0": RayMaze(size=size) for size in (9, 11, 13, 15)},
    "wmkit/MemoryMaze-v0": MemoryMaze(),
    **{
        "-".join(("wmkit/MemoryMaze", f"{size}x{size}", *names, "v0")): MemoryMaze(
            size=size, **{key: value for name in names for key, value in VARIANTS.get(name, {}).items()}
        )
        for size in (9, 11, 13, 15)
        for names in (variant.split("-") if variant else [] for variant in _variants)
    },
    **{f"wmkit/Ray{number}Rooms-v0": Rooms(rooms=rooms) for number, rooms in (("Two", 2), ("Four", 4), ("Ten", 10))},
    "wmkit/RayLookAround-v0": LookAround(),
    "wmkit/RayHiddenMotion-v0": RayHiddenMotion(),
    "wmkit/DistractingMemory-v0": DistractingMemory(),
    **{f"wmkit/DistractingMemory-{width}-v0": DistractingMemory(width=width) for width in (100, 200, 400)},
    "wmkit/MultiDoorsKeys-v0": MultiDoorsKeys(),
    **{f"wmkit/MultiDoorsKeys-{keys}-v0": MultiDoorsKeys(keys=keys) for keys in (3, 5, 7)},
    "wmkit/HiddenMotion-v0": HiddenMotion(),
    "wmkit/HiddenMotion-2-v0": HiddenMotion(),
}
"""Worlds to act in, by Gymnasium id; `gymnasium.make(id, width=64, tile=4)` changes settings."""


def find_world(name: str, **settings: Any) -> World:
    """The world of a name in `WORLDS`, with other settings if there are any: `find_world("ray_maze", size=11)`.

    Raises `ValueError` for an unknown name, with the closest match and the list of names, and for settings that make no
    world, and `TypeError` for what is no setting.
    """
    if name not in WORLDS:
        close = difflib.get_close_matches(name, WORLDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"Unknown world {name!r}.{hint} Known: {', '.join(sorted(WORLDS))}")
    found = WORLDS[name]
    return (found() if isinstance(found, type) else found).with_settings(**settings)


def generate(
    world: str, *, seed: int, split: str = "train", index: int = 0, length: int | None = None, **settings: Any
) -> Episode:
    """One episode of `find_world(world, **settings)`; see `World.generate`."""
    return find_world(world, **settings).generate(seed=seed, split=split, index=index, length=length)


for _id, _world in ENVIRONMENTS.items():
    _more = {"extra_obs": True} if "-ExtraObs-" in _id else {}
    gymnasium.register(_id, kwargs={"world": _world, **_more}, **_world.registration)
