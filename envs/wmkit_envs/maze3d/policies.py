"""Who walks: the 10-degree rule by which every script steers, and the wander policy, which collects maze episodes.

The 10-degree rule is that of the S4WM collectors: turn in place until the waypoint is ahead, then walk.

Wandering is our own design, for the original collector was never published: walk to a uniformly drawn free cell along a
shortest path (breadth-first search), then draw the next cell. At every step, with probability 0.02, a burst of 5
uniformly random actions starts instead. A walker that is stuck draws another cell.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.kinematics import FORWARD, LEFT, NUM_ACTIONS, RIGHT
from wmkit_envs.maze3d.scene import Pose
from wmkit_envs.maze3d.simulation import Simulation

TOLERANCE = math.radians(10)
"""Of the 10-degree rule."""
BURST_PROBABILITY, BURST_LENGTH = 0.02, 5
ARRIVED = 0.3
"""Distance to a cell's centre, in cells, at which it counts as reached."""
STALL_STEPS, STALL_DISTANCE = 4, 0.02
"""Steps forward in a row that each moved less than this many cells."""

Cell = tuple[int, int]


def bearing(pose: Pose, x: float, y: float) -> float:
    """Angle from the heading to the point (x, y), in -pi..pi, positive to the left."""
    return math.remainder(math.atan2(y - pose.y, x - pose.x) - pose.heading, 2 * math.pi)


def towards(pose: Pose, x: float, y: float) -> int:
    """The action of the 10-degree rule for the waypoint (x, y)."""
    angle = bearing(pose, x, y)
    if abs(angle) < TOLERANCE:
        return FORWARD
    return LEFT if angle > 0 else RIGHT


def wander(simulation: Simulation, length: int, rng: np.random.Generator) -> None:
    """Drive `simulation` until it holds `length` observations."""
    policy = Wander(simulation.scene.layout, rng)
    while len(simulation) < length:
        simulation.step(policy.act(simulation.pose))


class Wander:
    """The policy and its memory: the goal's distance map, the burst under way, the steps without progress."""

    def __init__(self, layout: NDArray[np.uint8], rng: np.random.Generator) -> None:
        rows, columns = np.nonzero(layout)
        self._cells: list[Cell] = [(int(x), int(y)) for x, y in zip(columns, rows, strict=True)]
        self._rng = rng
        self._burst: list[int] = []
        self._stalled = 0
        self._last = (math.nan, math.nan)
        self._draw_goal()

    def act(self, pose: Pose) -> int:
        """The next action at `pose`."""
        self._watch(pose)
        if not self._burst and self._rng.random() < BURST_PROBABILITY:
            self._burst = [int(action) for action in self._rng.integers(NUM_ACTIONS, size=BURST_LENGTH)]
        if self._burst:
            return self._burst.pop()
        x, y = self._waypoint(pose)
        action = towards(pose, x, y)
        self._stalled += action == FORWARD
        return action

    def _watch(self, pose: Pose) -> None:
        """Draw another goal on a stall; forget the count when the walker moved."""
        if math.dist(self._last, (pose.x, pose.y)) >= STALL_DISTANCE:
            self._stalled = 0
        self._last = (pose.x, pose.y)
        if self._stalled >= STALL_STEPS:
            self._draw_goal()

    def _waypoint(self, pose: Pose) -> tuple[float, float]:
        """Centre of the next cell on the way; draws a new goal at the old one."""
        if math.dist((pose.x, pose.y), _centre(self._goal)) < ARRIVED:
            self._draw_goal()
        here = (math.floor(pose.x), math.floor(pose.y))
        ahead = [cell for cell in _neighbours(here) if self._distance.get(cell, math.inf) < self._distance[here]]
        return _centre(ahead[0] if ahead else self._goal)

    def _draw_goal(self) -> None:
        self._goal = self._cells[int(self._rng.integers(len(self._cells)))]
        self._distance = distances(set(self._cells), self._goal)
        self._stalled = 0


def distances(cells: set[Cell], goal: Cell) -> dict[Cell, int]:
    """Steps from every cell that is connected to `goal`, by breadth-first search."""
    found = {goal: 0}
    queue = deque([goal])
    while queue:
        here = queue.popleft()
        for cell in _neighbours(here):
            if cell in cells and cell not in found:
                found[cell] = found[here] + 1
                queue.append(cell)
    return found


def _neighbours(cell: Cell) -> tuple[Cell, Cell, Cell, Cell]:
    x, y = cell
    return (x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)


def _centre(cell: Cell) -> tuple[float, float]:
    return cell[0] + 0.5, cell[1] + 0.5
