"""Memory worlds as Gymnasium environments and as scripted episode generators, and videos."""

from __future__ import annotations

from typing import Any

import gymnasium

from wmkit_envs.grid.distracting_memory import DistractingMemory
from wmkit_envs.grid.multi_doors_keys import MultiDoorsKeys
from wmkit_envs.maze3d.worlds import RayMaze, RayTwoRooms
from wmkit_envs.video.moving_mnist import MovingMnist
from wmkit_envs.world import Episode, World
from wmkit_envs.worlds import ENVIRONMENTS, FAMILIES, PUBLISHED, WORLDS, find_world

__all__ = [
    "ENVIRONMENTS",
    "FAMILIES",
    "PUBLISHED",
    "WORLDS",
    "DistractingMemory",
    "Episode",
    "MovingMnist",
    "MultiDoorsKeys",
    "RayMaze",
    "RayTwoRooms",
    "World",
    "find_world",
    "generate",
]


def generate(
    world: str, *, seed: int, split: str = "train", index: int = 0, length: int | None = None, **settings: Any
) -> Episode:
    """One episode of `find_world(world, **settings)`; see `World.generate`."""
    return find_world(world, **settings).generate(seed=seed, split=split, index=index, length=length)


for _id, _world in ENVIRONMENTS.items():
    gymnasium.register(_id, kwargs={"world": _world}, **_world.registration)
