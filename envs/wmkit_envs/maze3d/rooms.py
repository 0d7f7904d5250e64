"""Two, Four and Ten Rooms: the fixed layouts of the S4WM data, with objects, a start and wall styles drawn at random.

Rooms are 3x3 cells, walls and doorways one cell. Rooms are numbered along the rows from the bottom-left one, so that
room n of Ten has its corner at (4 (n mod 5), 4 (n div 5)); the doorways join them into a ring. The floor is dark
everywhere, in the doorways too.

Source: the tasks published with DrStrategy (ahn-ml/drstrategy, memory-maze/memory_maze/tasks.py), their geometry.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.scene import START_LIFT, Pose, Scene, dress_walls

SIDE = 3
"""Cells along a side of a room; the next room begins `SIDE + 1` cells on."""
NO_ROOM = -1
"""Number of a cell in a doorway or a wall."""
MAPS = {
    2: """
    #########
    #soo#oos#
    #sso#oss#
    #ss...ss#
    #########
    """,
    4: """
    #########
    #ss...ss#
    #sso#oss#
    #.oo#oo.#
    #.#####.#
    #.oo#oo.#
    #sso#oss#
    #ss...ss#
    #########
    """,
    10: """
    #####################
    #ss...ss#ss...ss#oos#
    #sso#oso#oso#oso#oss#
    #.oo#ss...ss#ss...s.#
    #.#################.#
    #.oo#ss...ss#ss...s.#
    #sso#oso#oso#oso#oss#
    #ss...ss#ss...ss#oos#
    #####################
    """,
}
"""By the number of rooms: # is a wall, o may hold an object, s may be the start."""
OBJECTS = {2: 3, 4: 6, 10: 15}
"""How many of the cells o hold an object."""


def draw_rooms(number: int, rng: np.random.Generator) -> Scene:
    """Objects, wall styles and start in the layout of 2, 4 or 10 rooms."""
    cells = np.array([list(row) for row in MAPS[number].split()])[::-1]  # (h + 2, w + 2), row 0 at the bottom
    starts, places = (np.argwhere(cells == mark)[:, ::-1].astype(np.float64) - 0.5 for mark in "so")  # (n, 2) x, y
    start = starts[int(rng.integers(len(starts)))]
    return Scene(
        walls=dress_walls(cells != "#", rng),
        floors=np.zeros(cells.shape, np.uint8),
        objects=places[rng.permutation(len(places))[: OBJECTS[number]]],
        start=Pose(float(start[0]), float(start[1]), rng.uniform(-math.pi, math.pi), START_LIFT),
        rooms=number_rooms(cells.shape[0] - 2, cells.shape[1] - 2),
    )


def number_rooms(height: int, width: int) -> NDArray[np.int64]:
    """(h, w) the number of each cell's room, `NO_ROOM` between rooms."""
    y, x = np.mgrid[:height, :width]
    numbers = x // (SIDE + 1) + y // (SIDE + 1) * ((width + 1) // (SIDE + 1))
    return np.where((x % (SIDE + 1) < SIDE) & (y % (SIDE + 1) < SIDE), numbers, NO_ROOM)
