"""The mazes under both renderers, against dm_control and Memory Maze: python -m benchmarks.maze3d

First what must be equal: positions, touches and pictures of 300 steps with dm_control's physics and camera of the same
scene; and where the packages memory-maze 1.0.3 and gym 0.26.2 can be imported, the same with Memory Maze itself, whose
maze is then ours, with its rewards. Then steps per second of CPU time on one core, in turns, the best of each: of
environments, and of whole episodes as they are generated (maze, walk, physics, ground truth, pictures).

    pip install --no-deps --target STOCK memory-maze==1.0.3 gym==0.26.2 gym-notices
    PYTHONPATH=STOCK python -m benchmarks.maze3d
"""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wmkit.machine import processor_name
from wmkit_envs import MemoryMaze, RayMaze
from wmkit_envs.maze3d.env import RayEnv
from wmkit_envs.maze3d.kinematics import towards
from wmkit_envs.maze3d.mujoco import gl
from wmkit_envs.maze3d.mujoco.model import CELL, WALL_ART
from wmkit_envs.maze3d.mujoco.renderer import render
from wmkit_envs.maze3d.mujoco.walker import Ball
from wmkit_envs.maze3d.oracle import shortest_way
from wmkit_envs.maze3d.scene import OPEN, Pose, Scene
from wmkit_envs.world import EpisodeSeed

CHECKED, ROUNDS, STEPS, SEED = 300, 3, 100, 5
SIZES = (9, 15)


def check_against_dm_control() -> bool:
    """dm_control's own render of the same physics, and its scan of contacts."""
    from tests.references.dm_maze import DmMaze

    simulation = MemoryMaze().walk(EpisodeSeed(SEED), CHECKED + 1)
    scene, actions = simulation.scene, simulation.trajectory().actions[1:]
    maze, ball = DmMaze(scene), Ball(scene)
    positions, touches, pictures, touched = 0, 0, 0, 0
    for action in actions:
        felt = maze.step(action)
        ball.step(action)
        here = np.array([ball.pose[0], ball.pose[1], ball.pose[3], ball.pose[4]])
        columns = scene.layout.shape[1]
        x, y, lift, _, roll = maze.physics.data.qpos / [CELL, CELL, CELL, 1, 1]
        positions += np.array_equal(here, [x + columns / 2, y + columns / 2, lift, roll])
        touches += np.array_equal(felt, ball.contacts)
        touched += felt.sum()
        pictures += np.array_equal(maze.render(), render(scene, np.array([ball.pose]))[0])
    print(f"{len(actions)} steps as dm_control's: positions {positions}, touches {touches} ({touched} felt), ", end="")
    print(f"pictures {pictures}")
    maze.physics.free()
    return positions == touches == pictures == len(actions)


def check_against_stock() -> bool:
    """Memory Maze walked to its targets, and its maze as ours under the same actions."""
    env = make_stock(9)
    seen = env.reset().observation
    inner = env
    while "env" in vars(inner):
        inner = inner.env
    task, physics = inner.task, inner.physics
    scene = scene_of(task, physics, seen)
    ball = Ball(scene)
    frames = np.array_equal(without_border(render(scene, np.array([ball.pose]))[0]), without_border(seen["image"]))
    same_frames, same_rewards, rewards = int(frames), 0, 0.0
    for _ in range(CHECKED):
        goal = task._current_target_ix
        pose = Pose(*seen["agent_pos"], math.atan2(*seen["agent_dir"][::-1]))
        way = shortest_way(scene.layout, cell_of(seen["agent_pos"]), cell_of(scene.objects[goal]))
        action = towards(pose, *(scene.objects[goal] if len(way) < 2 else np.array(way[1]) + 0.5))
        step = env.step(action)
        seen = step.observation
        ball.step(action)
        picture = render(scene, np.array([ball.pose]))[0]
        same_frames += np.array_equal(without_border(picture), without_border(seen["image"]))
        same_rewards += ball.contacts[goal] == step.reward
        rewards += step.reward
    print(f"{CHECKED} steps as Memory Maze's: pictures {same_frames - frames}, rewards {same_rewards} ({rewards:.0f})")
    env.close()
    return same_frames == CHECKED + 1 and same_rewards == CHECKED


def make_stock(size: int) -> Any:
    """Memory Maze with what it tells about the maze."""
    from memory_maze import tasks

    return getattr(tasks, f"memory_maze_{size}x{size}")(seed=SEED, global_observables=True)


def scene_of(task: Any, physics: Any, seen: dict[str, NDArray[Any]]) -> Scene:
    """Memory Maze's maze as ours."""
    arena = task._maze_arena
    letters = np.array(arena.maze.entity_layer)[::-1]
    walls = np.full(letters.shape, OPEN, np.int8)
    for letter, texture in arena._current_wall_texture.items():
        walls[letters == letter] = WALL_ART.index(texture.name)
    return Scene(
        walls=walls,
        floors=(np.array(arena.maze.variations_layer)[::-1] != ".").astype(np.uint8),
        objects=seen["targets_pos"],
        start=Pose(*seen["agent_pos"], -physics.data.qpos[3]),
    )


def cell_of(place: NDArray[np.float64]) -> tuple[int, int]:
    return int(place[0]), int(place[1])


def without_border(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[2:-2, 2:-2]


def walk(env: Any) -> Callable[[], int]:
    """`STEPS` steps of an environment that has begun, of any interface; returns how many."""
    env.reset()
    actions = np.random.default_rng(0).choice(6, STEPS, p=[0.05, 0.55, 0.15, 0.15, 0.05, 0.05])

    def work() -> int:
        for action in actions:
            env.step(action)
        return len(actions)

    return work


def generate(world: RayMaze) -> int:
    """A whole episode; returns how many steps it has."""
    return len(world.generate(seed=SEED)["action"]) - 1


def main() -> None:
    print(f"{processor_name()}, one core; MuJoCo draws by {gl.describe()}")
    has_stock = all(importlib.util.find_spec(name) for name in ("memory_maze", "gym"))
    good = check_against_dm_control()
    if has_stock:
        good &= check_against_stock()
    else:
        print("Memory Maze cannot be imported; see the top of this file")
    for size in SIZES:
        contenders = {"Memory Maze": walk(make_stock(size))} if has_stock else {}
        contenders |= {
            "memory_maze": walk(RayEnv(MemoryMaze(size=size))),
            "ray_maze physics=mujoco": walk(RayEnv(RayMaze(size=size, physics="mujoco"))),
            "ray_maze": walk(RayEnv(RayMaze(size=size))),
            "ray_maze, whole episodes": partial(generate, RayMaze(size=size)),
        }
        best = dict.fromkeys(contenders, math.inf)
        for _ in range(ROUNDS):
            for name, work in contenders.items():
                start = time.process_time()
                steps = work()
                best[name] = min(best[name], (time.process_time() - start) / steps)
        first = next(iter(best))
        for name, seconds in best.items():
            print(f"{size}x{size} {name:<24} {1 / seconds:>8,.0f} steps/s  {best[first] / seconds:>6.1f} x {first}")
    if not good:
        sys.exit("not equal")


if __name__ == "__main__":
    main()
