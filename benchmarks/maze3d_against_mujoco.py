"""The fitted motion of the 3D worlds against MuJoCo's: python -m benchmarks.maze3d_against_mujoco

The same mazes, starts and actions under both. Actions are random and sticky, so that walls are run into: each is kept
for 1 to 8 steps, and half of them go forward.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wmkit_envs import RayMaze
from wmkit_envs.world import EpisodeSeed

MAZES, AFTER, RANDOM_MAZES, RANDOM_STEPS = 200, (50, 200), 30, 500


def sticky(steps: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Actions (steps,)."""
    chosen = rng.choice(6, steps, p=[0.05, 0.5, 0.15, 0.15, 0.075, 0.075])
    return np.repeat(chosen, rng.integers(1, 9, steps))[:steps]


def walk(world: RayMaze, index: int, actions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Poses (T + 1, 3)."""
    simulation = world.begin(EpisodeSeed(0, index=index))
    for action in actions:
        simulation.step(int(action))
    return simulation.trajectory().poses[:, :3]


def main() -> None:
    fitted, exact = RayMaze(), RayMaze(physics="mujoco")
    rng = np.random.default_rng(0)
    apart: dict[int, list[tuple[float, float]]] = {steps: [] for steps in AFTER}
    for index in range(MAZES):
        actions = sticky(max(AFTER), rng)
        ours, theirs = walk(fitted, index, actions), walk(exact, index, actions)
        for steps in AFTER:
            turn = abs(math.remainder(ours[steps, 2] - theirs[steps, 2], 2 * math.pi))
            apart[steps].append((math.dist(ours[steps, :2], theirs[steps, :2]), math.degrees(turn)))
    for steps, found in apart.items():
        cells, degrees = np.median(found, axis=0)
        print(f"after {steps} steps, {MAZES} mazes, median: {cells:.3f} cells and {degrees:.2f} degrees apart")
    for name, world in (("fitted", fitted), ("mujoco", exact)):
        walks = [walk(world, index, rng_actions) for index, rng_actions in enumerate(random_actions())]
        lengths = [np.hypot(*np.diff(poses[:, :2], axis=0).T).sum() for poses in walks]
        visited = [len(np.unique(np.floor(poses[:, :2]), axis=0)) for poses in walks]
        print(
            f"{RANDOM_STEPS} random actions, {RANDOM_MAZES} mazes, {name}: "
            f"{np.mean(lengths):.1f} cells of way, {np.mean(visited):.1f} cells visited"
        )


def random_actions() -> list[NDArray[np.int64]]:
    """The same for both."""
    rng = np.random.default_rng(1)
    return [sticky(RANDOM_STEPS, rng) for _ in range(RANDOM_MAZES)]


if __name__ == "__main__":
    main()
