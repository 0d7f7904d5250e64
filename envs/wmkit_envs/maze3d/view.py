"""Which walls are in view, and since when: what of a frame can be remembered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.compiled import compiled
from wmkit_envs.maze3d.raycast import HALF_VIEW, camera_of, cast
from wmkit_envs.maze3d.scene import Scene

RAYS = 16
"""Across the view, which is taken as square."""


def first_seen(scene: Scene, poses: NDArray[np.float64]) -> NDArray[np.int32]:
    """(T, RAYS): for each ray, the step at which the wall face that it meets was first in view.

    `poses` (T, 3 or more). A face is one side of one cell. The present step where it was not in view before.
    """
    faces = _faces(np.ascontiguousarray(poses[:, :3]), scene.walls)
    _, first, which = np.unique(faces, return_index=True, return_inverse=True)
    return (first // RAYS)[which].reshape(faces.shape).astype(np.int32)


@compiled
def _faces(poses: NDArray[np.float64], walls: NDArray[np.int8]) -> NDArray[np.int64]:
    """(T, RAYS) a number for each wall face."""
    out = np.empty((len(poses), RAYS), np.int64)
    for step in range(len(poses)):
        x, y, forward_x, forward_y = camera_of(poses[step])
        for ray in range(RAYS):
            across = HALF_VIEW * (2 * (ray + 0.5) / RAYS - 1)
            ray_x, ray_y = forward_x + across * forward_y, forward_y - across * forward_x
            row, column, along_x = cast(x, y, ray_x, ray_y, walls)
            side = (0 if ray_x < 0 else 1) if along_x else (2 if ray_y < 0 else 3)
            out[step, ray] = 4 * (row * walls.shape[1] + column) + side
    return out
