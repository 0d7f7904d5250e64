"""Frames per second of the tile worlds against MiniGrid on one core: python benchmarks/grid.py

The yardstick is MiniGrid's own memory environment with its RGB wrapper at the same 5x5 view and tile size. Both sides
are measured in turns, several times, and the best of each counts: other jobs on the machine can only slow things down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from minigrid.envs.memory import MemoryEnv
from minigrid.wrappers import RGBImgPartialObsWrapper
from numpy.typing import NDArray

import wmkit_envs
from wmkit_envs.grid.atlas import render_tiles
from wmkit_envs.grid.world import GridWorld

ROUNDS, STEPS, TILE = 5, 2000, 8


def walk(env: gymnasium.Env[Any, Any]) -> int:
    """Turn and walk; returns the number of frames."""
    env.reset(seed=0)
    for step in range(STEPS):
        _, _, terminated, truncated, _ = env.step(2 if step % 4 else 0)
        if terminated or truncated:
            env.reset()
    return STEPS


def generate(world: GridWorld, batch: int) -> int:
    """Pictures of whole episodes, `batch` at a time."""
    episodes = world.generate_batch(seed=0, indices=range(batch))
    return int(np.prod(render_tiles(episodes["tiles"], world.atlas).shape[:2]))


def draw(tiles: NDArray[np.uint8], atlas: NDArray[np.uint8]) -> int:
    """Pictures of stored tiles, as when episodes are loaded."""
    return len(render_tiles(tiles, atlas))


def generate_one(world: GridWorld) -> int:
    """One episode as the data workers make it."""
    return len(world.generate(seed=0, index=1)["image"])


def step_many(env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> int:
    """Steps of a vector environment."""
    env.reset(seed=0)
    for step in range(100):
        env.step(np.full(env.num_envs, 2 if step % 4 else 0))
    return 100 * env.num_envs


def seconds(work: Callable[[], int]) -> float:
    """CPU time per frame."""
    start = time.process_time()
    frames = work()
    return (time.process_time() - start) / frames


def main() -> None:
    memory = RGBImgPartialObsWrapper(MemoryEnv(size=13, agent_view_size=5), tile_size=TILE)
    rivals: dict[str, Callable[[], int]] = {"MiniGrid MemoryEnv + RGBImgPartialObsWrapper": lambda: walk(memory)}
    for env_id in ("wmkit/DistractingMemory-100-v0", "wmkit/MultiDoorsKeys-5-v0"):
        world = wmkit_envs.ENVIRONMENTS[env_id]
        assert isinstance(world, GridWorld)
        name, stored = world.name, world.generate(seed=0)["tiles"]
        env, vector = gymnasium.make(env_id), gymnasium.make_vec(env_id, num_envs=64)
        rivals |= {
            f"{name}: generate_batch(16) + pictures": lambda world=world: generate(world, 16),
            f"{name}: pictures from tiles": lambda world=world, stored=stored: draw(stored, world.atlas),
            f"{name}: generate, one episode": lambda world=world: generate_one(world),
            f"{name}: make_vec, 64": lambda vector=vector: step_many(vector),
            f"{name}: MiniGrid env": lambda env=env: walk(env),
        }
    for work in rivals.values():
        work()  # compiles, fills caches
    best = {what: min(seconds(work) for _ in range(ROUNDS)) for what, work in rivals.items()}
    yardstick = next(iter(best.values()))
    for what, spent in best.items():
        print(f"{what:<56} {1 / spent:>9,.0f} frames/s CPU {yardstick / spent:>7.1f} x")


if __name__ == "__main__":
    main()
