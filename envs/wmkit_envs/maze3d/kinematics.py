"""How the walker moves and steers: the rolling ball of Memory Maze under six actions.

From rest it goes 0.111, 0.219, 0.243, 0.248 -> 0.250 cells a step, and turns 14.1, then 18.4 degrees a step and 2.9 in
the step after release. Walls stop its centre at 0.10 cells, and it sticks to them.

Every script steers by the 10-degree rule of the S4WM collectors: turn in place until the waypoint is ahead, then walk.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.ball import BALL_RADIUS, SUBSTEPS, UNITS_PER_CELL, roll
from wmkit_envs.maze3d.scene import OPEN, Pose, Scene

NOOP, FORWARD, LEFT, RIGHT, FORWARD_LEFT, FORWARD_RIGHT = range(6)
NUM_ACTIONS = 6
WALL_GAP = BALL_RADIUS / UNITS_PER_CELL
"""Distance in cells at which a wall stops the centre; the contact is soft and gives way by some thousandths."""
TOLERANCE = math.radians(10)
"""Of the 10-degree rule."""
COMMANDS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (1.0, 1.0), (1.0, -1.0))
"""By action: how the motors drive forward and steer to the left."""


class Walker:
    """A pose in motion in a scene whose walls stop it."""

    contacts = None
    """It feels nothing; see `simulation.Body`."""

    def __init__(self, scene: Scene) -> None:
        self._walls = scene.walls != OPEN  # (rows, columns), outer wall included
        x, y, heading, lift, turned = scene.start
        self._position = np.array(
            [UNITS_PER_CELL * (x + 1), UNITS_PER_CELL * (y + 1), UNITS_PER_CELL * lift, heading, turned]
        )
        self._velocity = np.zeros(5)

    @property
    def pose(self) -> Pose:
        """The present pose."""
        x, y, lift, heading, turned = self._position.tolist()
        heading = math.remainder(heading, 2 * math.pi)
        return Pose(x / UNITS_PER_CELL - 1, y / UNITS_PER_CELL - 1, heading, lift / UNITS_PER_CELL, turned)

    def step(self, action: int) -> NDArray[np.float64]:
        """Move by one step of 0.25 s under one of the six actions; the way (50, 2) in cells that the centre took."""
        way = np.empty((SUBSTEPS, 2))
        roll(self._position, self._velocity, *COMMANDS[action], self._walls, way)
        return way / UNITS_PER_CELL - 1


def towards(pose: Pose, x: float, y: float) -> int:
    """The action of the 10-degree rule for the waypoint (x, y)."""
    angle = math.remainder(math.atan2(y - pose.y, x - pose.x) - pose.heading, 2 * math.pi)  # positive to the left
    if abs(angle) < TOLERANCE:
        return FORWARD
    return LEFT if angle > 0 else RIGHT
