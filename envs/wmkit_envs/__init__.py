"""Memory worlds as Gymnasium environments and as scripted episode generators, and videos."""

from __future__ import annotations

import gymnasium

from wmkit_envs.maze3d.worlds import RAY_MAZE_9X9, RAY_MAZE_11X11, RAY_MAZE_13X13, RAY_MAZE_15X15, RAY_TWO_ROOMS
from wmkit_envs.world import Episode, World
from wmkit_envs.worlds import (
    DISTRACTING_MEMORY_100,
    DISTRACTING_MEMORY_200,
    DISTRACTING_MEMORY_400,
    MOVING_MNIST,
    MOVING_MNIST_FAST,
    MOVING_MNIST_SLOW,
    MULTI_DOORS_KEYS_3,
    MULTI_DOORS_KEYS_5,
    MULTI_DOORS_KEYS_7,
    SMALL_WORLDS,
    VIDEOS,
    WORLDS,
    find_world,
)

__all__ = [
    "DISTRACTING_MEMORY_100",
    "DISTRACTING_MEMORY_200",
    "DISTRACTING_MEMORY_400",
    "MOVING_MNIST",
    "MOVING_MNIST_FAST",
    "MOVING_MNIST_SLOW",
    "MULTI_DOORS_KEYS_3",
    "MULTI_DOORS_KEYS_5",
    "MULTI_DOORS_KEYS_7",
    "RAY_MAZE_9X9",
    "RAY_MAZE_11X11",
    "RAY_MAZE_13X13",
    "RAY_MAZE_15X15",
    "RAY_TWO_ROOMS",
    "SMALL_WORLDS",
    "VIDEOS",
    "WORLDS",
    "Episode",
    "World",
    "find_world",
    "generate",
    "register",
]


def generate(world: str, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
    """One episode of `world` (a short name such as "ray_maze_9x9" or a full Gymnasium id); see `World.generate`."""
    return find_world(world).generate(seed=seed, split=split, index=index, length=length)


def register(name: str) -> str:
    """Make a world known to Gymnasium, if it is not yet, and return its id; `WORLDS` and `SMALL_WORLDS` already are.

    `gymnasium.make(wmkit_envs.register("distracting_memory_130"))`. Raises `ValueError` for an unknown world, for a
    video, in which nothing acts, and for a name with the size of tiles or with settings, which no id has.
    """
    world = find_world(name)
    base = find_world(world.id)
    if base != world:
        raise ValueError(
            f"{name}: an id has neither a size of tiles nor settings; register {base.name!r}, then say them: "
            "gymnasium.make(id, tile_size=4, ...)"
        )
    if world.id not in gymnasium.registry:
        gymnasium.register(
            world.id,
            kwargs={"world": base.name},
            max_episode_steps=world.episode_length - 1,
            **world.registration,
        )
    return world.id


for _name in (*WORLDS, *SMALL_WORLDS):
    register(_name)
