"""Memory worlds as Gymnasium environments and as scripted episode generators."""

from __future__ import annotations

import gymnasium

from wmkit_envs.worlds import (
    RAY_MAZE_9X9,
    RAY_MAZE_11X11,
    RAY_MAZE_13X13,
    RAY_MAZE_15X15,
    RAY_TWO_ROOMS,
    WORLDS,
    Episode,
    World,
    find_world,
)

__all__ = [
    "RAY_MAZE_9X9",
    "RAY_MAZE_11X11",
    "RAY_MAZE_13X13",
    "RAY_MAZE_15X15",
    "RAY_TWO_ROOMS",
    "WORLDS",
    "Episode",
    "World",
    "find_world",
    "generate",
]


def generate(world: str, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
    """One episode of `world` (a short name such as "ray_maze_9x9" or a full Gymnasium id); see `World.generate`."""
    return find_world(world).generate(seed=seed, split=split, index=index, length=length)


for _world in WORLDS.values():
    gymnasium.register(
        _world.id,
        entry_point="wmkit_envs.env:RayEnv",
        kwargs={"world": _world.name},
        max_episode_steps=_world.episode_length - 1,
    )
