"""What an episode is made of before anything moves: the grid, the walls' looks, the objects, the first pose.

Coordinates: one unit is one cell, x to the right, y up, the origin is the bottom-left corner of the inner maze (without
its outer wall). Grids are indexed [row, column] with row 0 at the bottom.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_SIDE, MAX_SIDE = 8, 1024
"""Pixels on a side of an image that a renderer draws."""
OPEN = -1
"""Value of a cell of `Scene.walls` that is not a wall."""
NUM_STYLES = 8
OBJECT_COLORS = (
    np.array(
        [(170, 38, 30), (99, 170, 88), (39, 140, 217), (93, 105, 199), (220, 193, 59), (220, 128, 107)],
        dtype=np.float64,
    )
    / 220
)
"""Red, green, blue, purple, yellow, salmon in [0, 1]: Memory Maze's."""


START_LIFT = -1e-9
"""Of the ball at an episode's start, see `Pose`: it touches the floor. At 0 rounding decides whether it does."""


class Pose(NamedTuple):
    """Where the walker is and where it looks."""

    x: float
    y: float
    heading: float
    """Radians from the x axis, counter-clockwise."""
    lift: float = 0.0
    """Of MuJoCo's ball, which sinks in a little and hops: cells above where it was put."""
    roll: float = 0.0
    """Of MuJoCo's ball about its axle, in radians; seen from above only."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """The constants of one episode."""

    walls: NDArray[np.int8]
    """(h + 2, w + 2) wall style 0..7 or `OPEN`, outer wall included: cell (x, y) is `walls[y + 1, x + 1]`."""
    floors: NDArray[np.uint8]
    """(h + 2, w + 2) 0 for corridors, 1 for rooms."""
    objects: NDArray[np.float64]
    """(k, 2) centres of the objects; of those that move, at the first step."""
    start: Pose
    palette: NDArray[np.float64] = dataclasses.field(default_factory=OBJECT_COLORS.copy)
    """(6, 3) colours in [0, 1]: object i has colour i mod 6."""
    raised: bool = False
    """Easily seen, as in Memory Maze's "Vis": low walls, and the objects above them."""
    plain: bool = False
    """Walls and floor without patterns, each in one colour; for the ray caster alone."""
    rooms: NDArray[np.int64] | None = None
    """(h, w) the number of each cell's room, -1 in doorways and walls; None where rooms have no numbers."""
    circling: NDArray[np.float64] | None = None
    """(k,) radians a step, counter-clockwise, by which each object goes round `start`; None where all lie still. For
    the ray caster, and where nothing is a target.
    """
    sides: NDArray[np.int64] | None = None
    """(4,) the style of each outer wall, counter-clockwise from the lower one; None where walls have several."""

    @property
    def layout(self) -> NDArray[np.uint8]:
        """(h, w) 1 for a free cell, 0 for a wall; the outer wall is left out."""
        return (self.walls[1:-1, 1:-1] == OPEN).astype(np.uint8)

    @property
    def colors(self) -> NDArray[np.float64]:
        """(k, 3) colour of each object in [0, 1]."""
        return self.palette[np.arange(len(self.objects)) % len(self.palette)]

    def objects_at(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """(T, k, 2) centres of the objects at these steps (T,) of the episode; (1, k, 2) where all lie still."""
        if self.circling is None:
            return self.objects[None]
        angle, middle = steps[:, None] * self.circling, np.array(self.start[:2])  # (T, k)
        x, y = (self.objects - middle).T
        cos, sin = np.cos(angle), np.sin(angle)
        return middle + np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1)


def check_image_size(size: tuple[int, int]) -> None:
    """Raise `ValueError` for a size (H, W) that no renderer draws."""
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise ValueError(f"image size: expected height and width in {MIN_SIDE}..{MAX_SIDE}, got {size}")


def dress_walls(free: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int8]:
    """Give each wall cell of an outer grid (rows, columns) one of the styles, the same within a block of the grid."""
    styles = rng.integers(NUM_STYLES, size=10)
    return np.where(free, OPEN, styles[wall_blocks(*free.shape)]).astype(np.int8)


def wall_blocks(rows: int, columns: int) -> NDArray[np.int64]:
    """The digit (rows, columns) of the block that each cell of an outer grid lies in, row 0 at the bottom.

    Rows are cut in 3 and columns in 3 columns/rows blocks (one less where that number divides 10, or block columns
    would repeat); block i, counted from the top left, has digit i mod 10. Source: Memory Maze, S4WM's collectors.
    """
    across = 3 * columns // rows
    across -= across > 1 and 10 % across == 0
    down = np.searchsorted(rows * np.arange(1, 3) // 3, np.arange(rows), side="right")[::-1]
    along = np.searchsorted(columns * np.arange(1, across) // across, np.arange(columns), side="right")
    return (down[:, None] * across + along) % 10
