"""The ray caster and the compiled ball against MuJoCo: python -m benchmarks.maze3d_against_mujoco

Pictures: the same mazes and poses of the wandering policy, depth and what each pixel shows. Motion: the same mazes,
starts and actions. Actions are random and sticky, so that walls are run into: each is kept for 1 to 8 steps, and half
of them go forward.

    python -m benchmarks.maze3d_against_mujoco --picture docs/pictures/renderers.png

draws instead what both show of one pose in each world that both can draw: the ray caster above, MuJoCo below.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wmkit_envs import RayMaze, Rooms
from wmkit_envs.maze3d.mujoco import renderer
from wmkit_envs.maze3d.mujoco.model import CELL, EYES, build
from wmkit_envs.maze3d.mujoco.walker import joints
from wmkit_envs.maze3d.raycast import FLOOR, OBJECT, SKY, WALL, measure, render
from wmkit_envs.maze3d.scene import Scene
from wmkit_envs.world import EpisodeSeed

MAZES, POSED, AFTER, RANDOM_MAZES, RANDOM_STEPS = 200, 100, (50, 200), 30, 500
SHOWN = (*(RayMaze(size=size) for size in (9, 11, 13, 15)), *(Rooms(rooms=rooms) for rooms in (2, 4, 10)))
"""Worlds that both can draw, from left to right."""
SHOWN_SEED, SHOWN_SIDE, GAP = 3, 128, 4


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


def compare_pictures() -> None:
    """Depth and kind of each pixel, one pose in each maze."""
    errors, alike, mixed = [], [], np.zeros((4, 4), np.int64)
    for index in range(MAZES):
        simulation = RayMaze().walk(EpisodeSeed(0, index=index), POSED + 1)
        pose = np.array([simulation.pose])  # (1, 5)
        depth, kind = (found[0] for found in measure(simulation.scene, pose))
        there, what = measure_in_mujoco(simulation.scene, pose)
        solid = (kind != SKY) & (kind == what)
        errors.append(np.median(np.abs(depth - there)[solid] / there[solid]))
        alike.append((kind == what).mean())
        np.add.at(mixed, (kind, what), 1)
    print(
        f"{MAZES} mazes, a pose each, 64x64: median relative error of depth {np.median(errors):.3%} "
        f"(90 % of the poses below {np.quantile(errors, 0.9):.3%}), the same kind {np.mean(alike):.2%} of pixels "
        f"(least {min(alike):.2%})"
    )
    for name, row in zip(("sky", "wall", "floor", "object"), mixed, strict=True):
        print(f"  {name:<6} here is in MuJoCo sky, wall, floor, object: {row.tolist()}")


def measure_in_mujoco(scene: Scene, pose: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Depth in cells and kind, both (H, W), as `raycast.measure` has them."""
    model = build(scene, seen=True)
    data = mujoco.MjData(model)
    data.qpos[:] = joints(scene, pose)[0]
    mujoco.mj_forward(model, data)
    kinds = np.full(model.ngeom + 1, FLOOR)
    for geom in range(model.ngeom):
        texture = model.mat(int(model.geom_matid[geom])).name.split()[0] if model.geom_matid[geom] >= 0 else ""
        kinds[geom] = {"wall": WALL, "object": OBJECT}.get(texture, FLOOR)
    kinds[-1] = SKY
    with mujoco.Renderer(model, 64, 64) as renderer:
        renderer.enable_depth_rendering()
        renderer.update_scene(data, camera=EYES)
        depth = renderer.render().astype(np.float64) / CELL
        renderer.disable_depth_rendering()
        renderer.enable_segmentation_rendering()
        renderer.update_scene(data, camera=EYES)
        return depth, kinds[renderer.render()[..., 0]]  # -1 is the sky


def draw_pairs(target: Path) -> None:
    """Write a PNG of both renderers' pictures of the view, of the walk's first hundred, that has most of objects."""
    pairs = []
    for world in SHOWN:
        simulation = world.walk(EpisodeSeed(SHOWN_SEED), POSED)
        scene, poses = simulation.scene, simulation.trajectory().poses[:POSED]
        best = (measure(scene, poses)[1] == OBJECT).sum((1, 2)).argmax()
        pairs.append([draw(scene, poses[best : best + 1], (SHOWN_SIDE,) * 2)[0] for draw in (render, renderer.render)])
    padded = np.pad(pairs, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)  # (worlds, 2, H, W, 3)
    picture = np.concatenate(np.concatenate(padded, axis=2), axis=0)[:-GAP, :-GAP]
    Image.fromarray(picture).save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="draw pairs of pictures into this PNG instead")
    target = parser.parse_args().picture
    if target is not None:
        draw_pairs(target)
        return
    compare_pictures()
    compiled, exact = RayMaze(), RayMaze(physics="mujoco")
    rng = np.random.default_rng(0)
    apart: dict[int, list[tuple[float, float]]] = {steps: [] for steps in AFTER}
    for index in range(MAZES):
        actions = sticky(max(AFTER), rng)
        ours, theirs = walk(compiled, index, actions), walk(exact, index, actions)
        for steps in AFTER:
            turn = abs(math.remainder(ours[steps, 2] - theirs[steps, 2], 2 * math.pi))
            apart[steps].append((math.dist(ours[steps, :2], theirs[steps, :2]), math.degrees(turn)))
    for steps, found in apart.items():
        cells, degrees = np.median(found, axis=0)
        print(f"after {steps} steps, {MAZES} mazes, median: {cells:.3f} cells and {degrees:.2f} degrees apart")
    for name, world in (("compiled", compiled), ("mujoco", exact)):
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
