"""The collecting policy of the S4WM data: explore a room by bursts of turning and walking, then go on to the next.

The tour goes around the ring of rooms, clockwise or counter-clockwise, by the timetable. Only forward, left and right
occur. A walk that leaves its room or misses a doorway is drawn again.

Source: the collectors published with DrStrategy (see `wmkit_envs.maze3d.timetable`), their rules re-implemented.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.kinematics import FORWARD, LEFT, RIGHT, TOLERANCE
from wmkit_envs.maze3d.rooms import NO_ROOM, SIDE
from wmkit_envs.maze3d.scene import Pose
from wmkit_envs.maze3d.simulation import Simulation
from wmkit_envs.maze3d.timetable import Timetable

MAX_TURNS, MAX_MOVES, MAX_WALKS = 14, 25, 1000

Vector = NDArray[np.float64]
"""(2,) x, y in cells."""


class TourFailed(Exception):
    """The walk left its room or missed the doorway; it is drawn again."""


def walk_tour(begin: Callable[[], Simulation], timetable: Timetable, rng: np.random.Generator) -> Simulation:
    """The walk from `begin()` to the timetable's last step, drawn again until it succeeds."""
    for _ in range(MAX_WALKS):
        simulation = begin()
        try:
            _Tour(simulation, rng).run(timetable)
        except TourFailed:
            continue
        return simulation
    raise AssertionError(f"{MAX_WALKS} walks failed from {begin().pose}")


class _Tour:
    """One try at the walk; raises `TourFailed` where it must be drawn again."""

    def __init__(self, simulation: Simulation, rng: np.random.Generator) -> None:
        rooms = simulation.scene.rooms
        assert rooms is not None, "a tour needs a scene with rooms"
        self._simulation = simulation
        self._rng = rng
        self._rooms = rooms
        self._middles = [np.argwhere(rooms == room).mean(0)[::-1] + 0.5 for room in range(rooms.max() + 1)]
        self._doorways = find_doorways(simulation.scene.layout, rooms)

    def run(self, timetable: Timetable) -> None:
        """Explore and change rooms by the timetable, and explore the last room to the end."""
        half = len(self._middles) // 2
        ring = [*range(half), *reversed(range(half, 2 * half))]  # counter-clockwise: the lower row, back the upper one
        onwards = (1, -1)[self._draw(0, 1)]
        for span in timetable.switches:
            self._explore(self._draw(*span))
            here = self._room()
            self._switch(here, ring[(ring.index(here) + onwards) % len(ring)])
        self._explore(timetable.last_step)

    @property
    def _steps(self) -> int:
        return len(self._simulation) - 1

    def _draw(self, low: int, high: int) -> int:
        """A uniform integer in low..high, both included."""
        return int(self._rng.integers(low, high + 1))

    def _room(self) -> int:
        """Number of the room that the walker is in; the walk has failed when it is in a doorway."""
        pose = self._simulation.pose
        room = int(self._rooms[int(pose.y), int(pose.x)])
        if room == NO_ROOM:
            raise TourFailed
        return room

    def _explore(self, until: int) -> None:
        """Alternate bursts of turning and walking in this room to exactly step `until`.

        The first burst that takes a step is drawn: turning, two times in three, or walking.
        """
        room, begun = self._room(), self._steps
        if begun >= until:
            raise TourFailed
        turning = False
        while self._steps < until:
            turning = self._rng.random() < 2 / 3 if self._steps == begun else not turning
            if turning:
                self._turn_burst(room, until)
            else:
                self._walk_burst(room, until)

    def _near_sides(self, room: int) -> list[str]:
        return near_sides(self._simulation.pose, self._middles[room])

    def _turn_burst(self, room: int, until: int) -> None:
        """Turn away from one wall (5..7 steps), out of a corner (8..12), or a little in the open (0..2)."""
        near = self._near_sides(room)
        if len(near) == 1:
            action, length = turn_away(near[0], self._simulation.pose.heading), self._draw(5, 7)
        else:
            action, length = (LEFT, RIGHT)[self._draw(0, 1)], self._draw(8, 12) if near else self._draw(0, 2)
        for _ in range(min(length, until - self._steps)):
            self._simulation.step(action)

    def _walk_burst(self, room: int, until: int) -> None:
        """Walk 2..4 steps, or to the first wall that is near."""
        for _ in range(min(self._draw(2, 4), until - self._steps)):
            self._simulation.step(FORWARD)
            if self._steps < until and self._room() != room:
                raise TourFailed
            if self._near_sides(room):
                break

    def _switch(self, here: int, there: int) -> None:
        """Walk to the room's corner at the doorway until in line with it, then through it and half a cell further.

        At the right end of Ten Rooms it is the corner at the other end of that line, as in the collector.
        """
        doorway, from_middle = self._doorways[here, there], self._doorways[here, there] - self._middles[here]
        ahead = np.trunc(from_middle / 2)  # doorways are 2 cells from the middle through the wall, 1 cell along it
        aside = from_middle - 2 * ahead
        height, width = self._rooms.shape
        end = -1 if len(self._middles) == 10 and doorway[0] == width - 0.5 else 1
        self._walk_to(self._middles[here] + SIDE / 2 * (end * ahead + aside), doorway, aside)
        far = np.clip(doorway + width * ahead, 0, (width, height))  # on the outer wall
        self._walk_to(far, doorway + ahead, ahead)

    def _walk_to(self, waypoint: Vector, line: Vector, across: Vector) -> None:
        """Repeat: face the waypoint, one step forward; until across the `line`, at most 25 times."""
        for _ in range(MAX_MOVES):
            if self._is_across(line, across):
                return
            self._face(waypoint)
            self._simulation.step(FORWARD)
        if not self._is_across(line, across):
            raise TourFailed

    def _is_across(self, line: Vector, across: Vector) -> bool:
        """Whether the walker has crossed the line through the point `line`, in the direction `across`."""
        pose = self._simulation.pose
        return bool((pose.x - line[0]) * across[0] + (pose.y - line[1]) * across[1] > 0)

    def _face(self, waypoint: Vector) -> None:
        """Turn in place until the waypoint, as seen from the first of these steps, is ahead; at most 14 times."""
        pose = self._simulation.pose
        bearing = math.atan2(waypoint[1] - pose.y, waypoint[0] - pose.x)
        action = LEFT if math.remainder(bearing - pose.heading, 2 * math.pi) > 0 else RIGHT
        for _ in range(MAX_TURNS):
            if self._is_ahead(bearing):
                return
            self._simulation.step(action)
        if not self._is_ahead(bearing):
            raise TourFailed

    def _is_ahead(self, bearing: float) -> bool:
        return abs(math.remainder(bearing - self._simulation.pose.heading, 2 * math.pi)) <= TOLERANCE


def find_doorways(layout: NDArray[np.uint8], rooms: NDArray[np.int64]) -> dict[tuple[int, int], Vector]:
    """The centre of the doorway between each two rooms that have one, by their numbers in both orders."""
    doorways = {}
    around = np.pad(rooms, 1, constant_values=NO_ROOM)
    for y, x in np.argwhere((layout == 1) & (rooms == NO_ROOM)):
        here, there = sorted(set(around[y : y + 3, x : x + 3].ravel().tolist()) - {NO_ROOM})
        doorways[here, there] = doorways[there, here] = np.array([x + 0.5, y + 0.5])
    return doorways


def near_sides(pose: Pose, middle: Vector) -> list[str]:
    """Sides of the room within one cell of the walker that it is heading for."""
    right, up = pose.x - middle[0], pose.y - middle[1]
    dx, dy = math.cos(pose.heading), math.sin(pose.heading)
    near = {
        "left": right < -0.5 and dx < 0,
        "right": right > 0.5 and dx > 0,
        "bottom": up < -0.5 and dy < 0,
        "top": up > 0.5 and dy > 0,
    }
    return [side for side, is_near in near.items() if is_near]


def turn_away(side: str, heading: float) -> int:
    """The turn that leads along the wall `side`, on from the present heading."""
    dx, dy = math.cos(heading), math.sin(heading)
    to_the_left = {"left": dy < 0, "right": dy >= 0, "bottom": dx >= 0, "top": dx < 0}
    return LEFT if to_the_left[side] else RIGHT
