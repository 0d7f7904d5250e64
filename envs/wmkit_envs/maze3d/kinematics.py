"""How the walker moves and steers: a first-order lag fitted to the published motion of Memory Maze's rolling ball.

Per step (0.25 s) a commanded speed u moves the walker by

    d = u + c (s - u),    s' = u + r (s - u),

where s is the lagging speed, c how much of the old speed a step still shows and r how much of it is left afterwards.
From rest that gives d_k = u (1 - c r^(k-1)): 0.111, 0.219, 0.243, 0.248 -> 0.250 cells. Turning forgets within one step
(r = 0): 14.1 degrees, then 18.4 per step, and 2.9 more in the step after release.

Every script steers by the 10-degree rule of the S4WM collectors: turn in place until the waypoint is ahead, then walk.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.scene import Pose

NOOP, FORWARD, LEFT, RIGHT, FORWARD_LEFT, FORWARD_RIGHT = range(6)
NUM_ACTIONS = 6
FORWARD_SPEED = 0.25
"""Cells per step."""
TURN_SPEED = math.radians(18.4)
"""Radians per step."""
FORWARD_LAG, FORWARD_KEPT = 0.556, 0.224
TURN_LAG, TURN_RELEASE_LAG = 1 - 14.1 / 18.4, 2.9 / 18.4
RADIUS = 0.2
"""Half the side of the square that must not overlap a wall, in cells."""
TOLERANCE = math.radians(10)
"""Of the 10-degree rule."""

_FORWARD_COMMAND = (0, 1, 0, 0, 1, 1)
_TURN_COMMAND = (0, 0, 1, -1, 1, -1)
_GAP = 1e-9
"""Keeps a walker that touches a wall strictly outside of it, whatever the rounding."""


class Walker:
    """A pose with speed and spin, in a grid whose walls stop it; it slides along them."""

    def __init__(self, layout: NDArray[np.uint8], start: Pose) -> None:
        self._free = [[bool(cell) for cell in row] for row in layout]
        self.x, self.y, self.heading = start[:3]
        self.contacts = None
        """It feels nothing; see `simulation.Body`."""
        self._speed = 0.0
        self._spin = 0.0

    @property
    def pose(self) -> Pose:
        """The present pose."""
        return Pose(self.x, self.y, self.heading)

    def step(self, action: int) -> NDArray[np.float64]:
        """Move by one step of 0.25 s under one of the six actions; returns where that led, (1, 2).

        Straight along the heading at mid-step.
        """
        spin, speed = TURN_SPEED * _TURN_COMMAND[action], FORWARD_SPEED * _FORWARD_COMMAND[action]
        turn = spin + (TURN_LAG if spin else TURN_RELEASE_LAG) * (self._spin - spin)
        distance = speed + FORWARD_LAG * (self._speed - speed)
        self._spin, self._speed = spin, speed + FORWARD_KEPT * (self._speed - speed)
        direction = self.heading + turn / 2
        self._slide(distance * math.cos(direction), distance * math.sin(direction))
        self.heading = math.remainder(self.heading + turn, 2 * math.pi)
        return np.array([[self.x, self.y]])

    def _slide(self, dx: float, dy: float) -> None:
        """Move along x, then along y; a blocked component ends at the wall."""
        x = self.x + dx
        side = x + math.copysign(RADIUS, dx)
        if self._is_free(side, self.y - RADIUS) and self._is_free(side, self.y + RADIUS):
            self.x = x
        else:
            self.x = _at_wall(x, dx)
        y = self.y + dy
        side = y + math.copysign(RADIUS, dy)
        if self._is_free(self.x - RADIUS, side) and self._is_free(self.x + RADIUS, side):
            self.y = y
        else:
            self.y = _at_wall(y, dy)

    def _is_free(self, x: float, y: float) -> bool:
        column, row = math.floor(x), math.floor(y)
        return 0 <= row < len(self._free) and 0 <= column < len(self._free[0]) and self._free[row][column]


def towards(pose: Pose, x: float, y: float) -> int:
    """The action of the 10-degree rule for the waypoint (x, y)."""
    angle = math.remainder(math.atan2(y - pose.y, x - pose.x) - pose.heading, 2 * math.pi)  # positive to the left
    if abs(angle) < TOLERANCE:
        return FORWARD
    return LEFT if angle > 0 else RIGHT


def _at_wall(position: float, step: float) -> float:
    """The coordinate at which the wall hit by going to `position` by `step` is just touched."""
    if step > 0:
        return math.floor(position + RADIUS) - RADIUS - _GAP
    return math.ceil(position - RADIUS) + RADIUS + _GAP
