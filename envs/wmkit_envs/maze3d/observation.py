"""What is seen and what is true along a trajectory: images, and the ground truth that probes are trained on.

Names and conventions are those of Memory Maze's ExtraObs and its public data set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.raycast import render
from wmkit_envs.maze3d.scene import Scene
from wmkit_envs.maze3d.simulation import Trajectory

Floats = NDArray[np.float32]
BORDER_BRIGHTNESS = 0.7
"""The image's border has this share of the current target's colour."""


def images(scene: Scene, trajectory: Trajectory, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(T, H, W, 3) uint8; where there is a current target, in a border of its colour, 2 pixels wide per 64."""
    images = render(scene, trajectory.poses, size)
    if trajectory.goals is not None:
        borders = np.rint(255 * BORDER_BRIGHTNESS * scene.colors).astype(np.uint8)[trajectory.goals]  # (T, 3)
        width = max(1, round(2 * size[0] / 64))
        for edge in (slice(None, width), slice(-width, None)):
            images[:, edge] = borders[:, None, None]
            images[:, width:-width, edge] = borders[:, None, None]
    return images


def constant_truth(scene: Scene) -> dict[str, NDArray[np.generic]]:
    """What holds for the whole episode: `maze_layout` (h, w), 1 free, row 0 at the bottom; `targets_pos` (k, 2)."""
    return {"maze_layout": scene.layout, "targets_pos": scene.objects.astype(np.float32)}


def step_truth(scene: Scene, trajectory: Trajectory) -> dict[str, NDArray[np.generic]]:
    """What changes, leading axis T.

    `agent_pos` (T, 2) in cells, `agent_dir` (T, 2) unit vector, `targets_vec` (T, k, 2) from the agent in its own frame
    as [right, forward]; with a current target also `target_pos`, `target_vec` (T, 2), `target_color` (T, 3) in [0, 1].
    """
    position, heading = trajectory.poses[:, :2], trajectory.poses[:, 2]
    direction = np.stack([np.cos(heading), np.sin(heading)], axis=1)  # (T, 2)
    forward = direction[:, None]  # (T, 1, 2)
    right = np.stack([forward[..., 1], -forward[..., 0]], axis=-1)
    offsets = scene.objects - position[:, None]  # (T, k, 2)
    vectors = np.stack([(offsets * right).sum(-1), (offsets * forward).sum(-1)], axis=-1)
    truth = {"agent_pos": position, "agent_dir": direction, "targets_vec": vectors}
    if trajectory.goals is not None:
        rows = np.arange(len(position))
        truth["target_pos"] = scene.objects[trajectory.goals]
        truth["target_vec"] = vectors[rows, trajectory.goals]
        truth["target_color"] = scene.colors[trajectory.goals]
    return {key: value.astype(np.float32) for key, value in truth.items()}
