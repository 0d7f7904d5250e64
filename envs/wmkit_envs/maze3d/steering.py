"""The 10-degree rule of the S4WM collectors: turn in place until the waypoint is ahead, then walk."""

from __future__ import annotations

import math

from wmkit_envs.maze3d.kinematics import FORWARD, LEFT, RIGHT
from wmkit_envs.maze3d.scene import Pose

TOLERANCE = math.radians(10)


def bearing(pose: Pose, x: float, y: float) -> float:
    """Angle from the heading to the point (x, y), in -pi..pi, positive to the left."""
    return math.remainder(math.atan2(y - pose.y, x - pose.x) - pose.heading, 2 * math.pi)


def towards(pose: Pose, x: float, y: float) -> int:
    """The action that the rule takes for the waypoint (x, y)."""
    angle = bearing(pose, x, y)
    if abs(angle) < TOLERANCE:
        return FORWARD
    return LEFT if angle > 0 else RIGHT
