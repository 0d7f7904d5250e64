"""Two Rooms: the fixed layout and the scripted walk of the S4WM data: exactly 301 context and 200 query observations.

Two rooms of 3x3 cells, joined by a doorway; three objects on random cells of a fixed list, wall styles at random. The
walker explores a room by bursts of turning and walking and changes rooms at set times. The context (steps 0..300) ends
in the room it started in, seen twice by then; the query starts with the walk through the doorway.

Source: the collectors published with DrStrategy (ahn-ml/drstrategy, memory-maze), re-implemented from a description.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from wmkit_envs.maze3d.kinematics import FORWARD, LEFT, RIGHT, towards
from wmkit_envs.maze3d.scene import Pose, Scene, dress_walls
from wmkit_envs.maze3d.simulation import Simulation

NUM_OBJECTS = 3
STEPS, QUERY_START = 500, 300
OBJECT_CELLS = ((1, 2), (2, 2), (2, 1), (4, 2), (5, 2), (4, 1))
START_CELLS = ((0, 2), (0, 1), (1, 1), (0, 0), (1, 0), (6, 2), (6, 1), (5, 1), (6, 0), (5, 0))
DOORWAY = (3, 0)
ROOMS = ((0.0, 3.0), (4.0, 7.0))
"""Range of x of the left and the right room; both reach from y = 0 to y = 3."""
ROOM_HEIGHT = 3.0
MAX_TURNS, MAX_MOVES, MAX_WALKS = 15, 25, 1000


class ScriptFailed(Exception):
    """The walk left its room or missed the doorway; it is drawn again."""


def draw_two_rooms(rng: np.random.Generator) -> Scene:
    """Objects, wall styles and start; the layout is always the same."""
    rooms = np.zeros((5, 9), np.bool_)
    rooms[1:4, 1:4] = rooms[1:4, 5:8] = True
    free = rooms.copy()
    free[DOORWAY[1] + 1, DOORWAY[0] + 1] = True
    start_x, start_y = START_CELLS[int(rng.integers(len(START_CELLS)))]
    objects = np.array(OBJECT_CELLS)[rng.permutation(len(OBJECT_CELLS))[:NUM_OBJECTS]]
    return Scene(
        walls=dress_walls(free, rng),
        floors=rooms.astype(np.uint8),
        objects=objects + 0.5,
        start=Pose(start_x + 0.5, start_y + 0.5, rng.uniform(-math.pi, math.pi)),
    )


def walk_two_rooms(begin: Callable[[], Simulation], rng: np.random.Generator) -> Simulation:
    """The scripted walk of 500 steps from `begin()`, drawn again until it succeeds."""
    for _ in range(MAX_WALKS):
        simulation = begin()
        try:
            _Script(simulation, rng).run()
        except ScriptFailed:
            continue
        return simulation
    raise AssertionError(f"{MAX_WALKS} walks failed from {begin().pose}")


class _Script:
    """One try at the walk; raises `ScriptFailed` where it must be drawn again."""

    def __init__(self, simulation: Simulation, rng: np.random.Generator) -> None:
        self._simulation = simulation
        self._rng = rng

    def run(self) -> None:
        """Explore and change rooms: there, back, and from step 300, the query, there and back again."""
        for start in (self._draw(80, 100), self._draw(180, 200), QUERY_START, self._draw(380, 400)):
            self._explore(start)
            self._switch()
        self._explore(STEPS)

    @property
    def _steps(self) -> int:
        return len(self._simulation) - 1

    def _draw(self, low: int, high: int) -> int:
        """A uniform integer in low..high, both included."""
        return int(self._rng.integers(low, high + 1))

    def _room(self) -> int:
        """Number of the room the walker is in; the walk has failed when it is in the doorway."""
        for room, (left, right) in enumerate(ROOMS):
            if left <= self._simulation.pose.x <= right:
                return room
        raise ScriptFailed

    def _explore(self, until: int) -> None:
        """Alternate bursts of turning (first, two in three times) and walking in this room to exactly step `until`."""
        if self._steps > until:
            raise ScriptFailed
        turning = self._rng.random() < 2 / 3
        while self._steps < until:
            if turning:
                self._turn_burst(until)
            else:
                self._walk_burst(until)
            turning = not turning

    def _near_sides(self) -> list[str]:
        """Of the room that the walker is in."""
        return near_sides(self._simulation.pose, ROOMS[self._room()])

    def _turn_burst(self, until: int) -> None:
        """Turn away from one wall (5..7 steps), out of a corner (8..12), or a little in the open (0..2)."""
        near = self._near_sides()
        if len(near) == 1:
            action, length = turn_away(near[0], self._simulation.pose.heading), self._draw(5, 7)
        else:
            action, length = (LEFT, RIGHT)[self._draw(0, 1)], self._draw(8, 12) if near else self._draw(0, 2)
        for _ in range(min(length, until - self._steps)):
            self._simulation.step(action)

    def _walk_burst(self, until: int) -> None:
        """Walk 2..4 steps, or to the first wall that is near."""
        for _ in range(min(self._draw(2, 4), until - self._steps)):
            self._simulation.step(FORWARD)
            if self._near_sides():
                break

    def _switch(self) -> None:
        """Walk to the room's corner at the doorway until in line with it, then through it and half a cell further."""
        lane = DOORWAY[1] + 0.5
        if self._room() == 0:
            self._walk_to(ROOMS[0][1], 0.0, lambda pose: pose.y < lane)
            self._walk_to(ROOMS[1][1], lane, lambda pose: pose.x > ROOMS[1][0] + 0.5)
        else:
            self._walk_to(ROOMS[1][0], 0.0, lambda pose: pose.y < lane)
            self._walk_to(ROOMS[0][0], lane, lambda pose: pose.x < ROOMS[0][1] - 0.5)

    def _walk_to(self, x: float, y: float, arrived: Callable[[Pose], bool]) -> None:
        """Repeat: face the waypoint, one step forward; until `arrived`, at most 25 times."""
        for _ in range(MAX_MOVES):
            if arrived(self._simulation.pose):
                return
            self._face(x, y)
            self._simulation.step(FORWARD)
        if not arrived(self._simulation.pose):
            raise ScriptFailed

    def _face(self, x: float, y: float) -> None:
        """Turn in place until the waypoint is ahead, at most 15 times."""
        for _ in range(MAX_TURNS):
            action = towards(self._simulation.pose, x, y)
            if action == FORWARD:
                return
            self._simulation.step(action)
        if towards(self._simulation.pose, x, y) != FORWARD:
            raise ScriptFailed


def near_sides(pose: Pose, room: tuple[float, float]) -> list[str]:
    """Sides of the room within one cell of the walker that it is heading for."""
    dx, dy = math.cos(pose.heading), math.sin(pose.heading)
    near = {
        "left": pose.x - room[0] < 1 and dx < 0,
        "right": room[1] - pose.x < 1 and dx > 0,
        "bottom": pose.y < 1 and dy < 0,
        "top": ROOM_HEIGHT - pose.y < 1 and dy > 0,
    }
    return [side for side, is_near in near.items() if is_near]


def turn_away(side: str, heading: float) -> int:
    """The turn that leads along the wall `side`, on from the present heading."""
    dx, dy = math.cos(heading), math.sin(heading)
    to_the_left = {"left": dy < 0, "right": dy >= 0, "bottom": dx >= 0, "top": dx < 0}
    return LEFT if to_the_left[side] else RIGHT
