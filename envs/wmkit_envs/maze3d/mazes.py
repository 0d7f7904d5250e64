"""Random mazes, and the wander policy, which collects their episodes.

Mazes are labmaze's: rooms joined by corridors, one object in some rooms, a wall style per block.

Wandering is our own design, for the original collector was never published: walk to a uniformly drawn free cell along a
shortest path (breadth-first search), then draw the next cell. At every step, with probability 0.02, a burst of 5
uniformly random actions starts instead. A walker that is stuck draws another cell.
"""

from __future__ import annotations

import dataclasses
import math
import platform
from collections import deque

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.kinematics import FORWARD, NUM_ACTIONS, towards
from wmkit_envs.maze3d.scene import START_LIFT, Pose, Scene, dress_walls
from wmkit_envs.maze3d.simulation import Simulation
from wmkit_envs.world import split_of

BURST_PROBABILITY, BURST_LENGTH = 0.02, 5
ARRIVED = 0.3
"""Distance to a cell's centre, in cells, at which it counts as reached."""
STALL_STEPS, STALL_DISTANCE = 4, 0.02
"""Steps forward in a row that each moved less than this many cells."""

Cell = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class MazeShape:
    """The parameters of Memory Maze's generator for one size."""

    size: int
    """Cells along a side, outer wall left out."""
    targets: int
    max_rooms: int = 6
    room_min_size: int = 3
    room_max_size: int = 5


def draw_maze(shape: MazeShape, split: str, rng: np.random.Generator) -> Scene:
    """A maze with at least `shape.targets` rooms, an object in that many of them, and a start.

    Small mazes repeat: of 20,000 seeds for 9x9 only 15,000 layouts differ. A layout therefore belongs to one split for
    good, by its checksum, and drawing goes on until a layout of `split` comes up. Raises `ValueError` where labmaze
    cannot be imported.
    """
    try:
        import labmaze
    except ImportError as error:
        raise ValueError(
            f"mazes need labmaze, which has packages for Python 3.12 and older, and this is Python "
            f"{platform.python_version()}: {error}. Install it (pip install labmaze) under such a Python, or take "
            "another world, as in world=ray_two_rooms or world=distracting_memory."
        ) from error
    maze = labmaze.RandomMaze(
        height=shape.size + 2,
        width=shape.size + 2,
        max_rooms=shape.max_rooms,
        room_min_size=shape.room_min_size,
        room_max_size=shape.room_max_size,
        spawns_per_room=1,
        objects_per_room=1,
        simplify=True,
        random_seed=int(rng.integers(2**31)),
    )
    while True:
        symbols = _grid(maze.entity_layer)
        if (symbols == "G").sum() >= shape.targets and split_of((symbols != "*").tobytes()) == split:
            break
        maze.regenerate()
    x, y = _draw_centres(symbols == "P", rng, 1)[0]
    return Scene(
        walls=dress_walls(symbols != "*", rng),
        floors=(_grid(maze.variations_layer) != ".").astype(np.uint8),
        objects=_draw_centres(symbols == "G", rng, shape.targets),
        start=Pose(float(x), float(y), rng.uniform(-math.pi, math.pi), START_LIFT),
    )


def _grid(layer: NDArray[np.str_]) -> NDArray[np.str_]:
    """A text grid as an array with row 0 at the bottom."""
    return np.asarray(layer)[::-1]


def _draw_centres(cells: NDArray[np.bool_], rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Centres (count, 2) as x, y of distinct cells drawn from a mask over the outer grid."""
    rows, columns = np.nonzero(cells)
    chosen = rng.permutation(len(rows))[:count]
    return np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float64) - 0.5


def wander(simulation: Simulation, length: int, rng: np.random.Generator, repeats: int = 1) -> None:
    """Drive `simulation` until it holds `length` observations; each action is taken `repeats` times."""
    policy = Wander(simulation.scene.layout, rng)
    while len(simulation) < length:
        action = policy.act(simulation.pose)
        for _ in range(repeats):
            simulation.step(action)


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
        if math.dist(self._last, (pose.x, pose.y)) >= STALL_DISTANCE:
            self._stalled = 0
        self._last = (pose.x, pose.y)
        if self._stalled >= STALL_STEPS:
            self._draw_goal()
        if not self._burst and self._rng.random() < BURST_PROBABILITY:
            self._burst = [int(action) for action in self._rng.integers(NUM_ACTIONS, size=BURST_LENGTH)]
        if self._burst:
            return self._burst.pop()
        action = towards(pose, *self._waypoint(pose))
        self._stalled += action == FORWARD
        return action

    def _waypoint(self, pose: Pose) -> tuple[float, float]:
        """Centre of the next cell on the way; draws a new goal at the old one."""
        if math.dist((pose.x, pose.y), _centre(self._goal)) < ARRIVED:
            self._draw_goal()
        here = (math.floor(pose.x), math.floor(pose.y))
        ahead = [cell for cell in _neighbours(here) if self._distance.get(cell, math.inf) < self._distance[here]]
        return _centre(ahead[0] if ahead else self._goal)

    def _draw_goal(self) -> None:
        """Another cell to walk to, and how far each cell is from it."""
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
