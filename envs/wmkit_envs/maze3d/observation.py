"""What is seen and what is true along a trajectory: pictures, and the ground truth that probes are trained on.

Names and conventions are those of Memory Maze's ExtraObs and its public data set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.raycast import render
from wmkit_envs.maze3d.scene import Scene
from wmkit_envs.maze3d.simulation import Trajectory

Floats = NDArray[np.float32]
FRAME_BRIGHTNESS = 0.7
"""The picture's border has this share of the current target's colour."""


def pictures(scene: Scene, trajectory: Trajectory, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(T, H, W, 3); a border shows the current target's colour where there is one."""
    if trajectory.goals is None:
        return render(scene, trajectory.poses, size)
    frame_colors = np.rint(255 * FRAME_BRIGHTNESS * scene.colors).astype(np.uint8)
    return render(scene, trajectory.poses, size, frame_colors[trajectory.goals])


def constant_truth(scene: Scene) -> dict[str, NDArray[np.generic]]:
    """What holds for the whole episode: `maze_layout` (h, w), 1 free, row 0 at the bottom; `targets_pos` (k, 2)."""
    return {"maze_layout": scene.layout, "targets_pos": scene.objects.astype(np.float32)}


def step_truth(scene: Scene, trajectory: Trajectory) -> dict[str, NDArray[np.generic]]:
    """What changes, leading axis T.

    `agent_pos` (T, 2) in cells, `agent_dir` (T, 2) unit vector, `targets_vec` (T, k, 2) from the agent in its own frame
    as [right, forward]; with a current target also `target_pos`, `target_vec` (T, 2), `target_color` (T, 3) in [0, 1].
    """
    position, heading = trajectory.poses[:, :2], trajectory.poses[:, 2]
    direction = np.stack([np.cos(heading), np.sin(heading)], axis=1)
    vectors = _in_agent_frame(scene.objects - position[:, None], direction)
    truth = {"agent_pos": position, "agent_dir": direction, "targets_vec": vectors}
    if trajectory.goals is not None:
        rows = np.arange(len(position))
        truth["target_pos"] = scene.objects[trajectory.goals]
        truth["target_vec"] = vectors[rows, trajectory.goals]
        truth["target_color"] = scene.colors[trajectory.goals]
    return {key: value.astype(np.float32) for key, value in truth.items()}


def _in_agent_frame(offsets: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Offsets (T, k, 2) in x, y as [right, forward] components for unit headings (T, 2)."""
    forward = direction[:, None]
    right = np.stack([forward[..., 1], -forward[..., 0]], axis=-1)
    return np.stack([(offsets * right).sum(-1), (offsets * forward).sum(-1)], axis=-1)
