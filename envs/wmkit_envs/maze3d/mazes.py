"""Random mazes from labmaze: rooms joined by corridors, one object in some rooms, a wall style per block."""

from __future__ import annotations

import dataclasses
import math
import zlib

import labmaze
import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.scene import Pose, Scene, dress_walls

_SHARES = {"train": range(14), "valid": range(14, 15), "test": range(15, 16)}
"""Which sixteenths of all layouts each split may use."""


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
    good, by its checksum, and drawing goes on until a layout of `split` comes up.
    """
    maze = _generator(shape, rng)
    while not (_is_roomy(maze, shape) and _share(maze) in _SHARES[split]):
        maze.regenerate()
    symbols = _grid(maze.entity_layer)
    free = symbols != "*"
    x, y = _centres(symbols == "P", rng, 1)[0]
    return Scene(
        walls=dress_walls(free, rng),
        floors=(_grid(maze.variations_layer) != ".").astype(np.uint8),
        objects=_centres(symbols == "G", rng, shape.targets),
        start=Pose(float(x), float(y), rng.uniform(-math.pi, math.pi)),
    )


def _generator(shape: MazeShape, rng: np.random.Generator) -> labmaze.RandomMaze:
    return labmaze.RandomMaze(
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


def _is_roomy(maze: labmaze.RandomMaze, shape: MazeShape) -> bool:
    return int((_grid(maze.entity_layer) == "G").sum()) >= shape.targets


def _share(maze: labmaze.RandomMaze) -> int:
    """Sixteenth that the layout falls in."""
    return zlib.crc32((_grid(maze.entity_layer) != "*").tobytes()) % 16


def _grid(layer: NDArray[np.str_]) -> NDArray[np.str_]:
    """A text grid as an array with row 0 at the bottom."""
    return np.asarray(layer)[::-1]


def _centres(cells: NDArray[np.bool_], rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Centres (count, 2) as x, y of distinct cells drawn from a mask over the outer grid."""
    rows, columns = np.nonzero(cells)
    chosen = rng.permutation(len(rows))[:count]
    return np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float64) - 0.5
