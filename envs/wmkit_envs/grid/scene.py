"""What a tile world is made of: the tiles of its map, MiniGrid's actions, and one episode before anything moves.

Tiles are numbers: the alphabet of maps, of 5x5 views and of the atlas. It is MiniGrid's, as far as these worlds use it;
so are `COLORS`, the order of the headings and the actions.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "purple": (112, 39, 195),
    "yellow": (255, 255, 0),
    "grey": (100, 100, 100),
}
COLOR_NAMES = tuple(COLORS)
NUM_COLORS = len(COLORS)

EMPTY, WALL = 0, 1
AGENT = 2
"""The agent alone on black, heading right; + 1 down, + 2 left, + 3 up."""
SQUARE = AGENT + 4
"""A coloured cell to walk over: + the number of the colour, as in the next three."""
KEY = SQUARE + NUM_COLORS
LOCKED = KEY + NUM_COLORS
"""A door that wants a key of its colour."""
OPEN = LOCKED + NUM_COLORS
"""A door that was opened."""
NUM_TILES = OPEN + NUM_COLORS

VIEW = 5
"""Cells across the view, whose middle is the agent's own."""
MIN_TILE, MAX_TILE = 4, 64
"""Pixels on a tile's side."""
RIGHT, DOWN, LEFT, UP = range(4)
"""Headings; x grows to the right, y grows down."""
TURN_LEFT, TURN_RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)
NUM_ACTIONS = 7

NOWHERE = -1
"""x and y of an exit that there is not."""


@dataclasses.dataclass(frozen=True)
class GridScene:
    """The map and what the episode is about. Cells are (x, y), x to the right and y down, (0, 0) is a corner wall."""

    cells: NDArray[np.uint8]
    """(H, W) the tile of each cell."""
    start: tuple[int, int, int]
    """x, y and heading of the agent."""
    exits: tuple[tuple[int, int], tuple[int, int]] = ((NOWHERE, NOWHERE), (NOWHERE, NOWHERE))
    """Cells that end the episode with reward 1 and with reward 0."""
    watched: tuple[tuple[int, int], ...] = ()
    """Cells whose contents an episode's record follows."""
    movers: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros((0, 1, 2), np.int64))
    """(M, P, 2) x, y of what moves by itself, at step t in cell t modulo P. On cells that the agent cannot reach, and
    no two of them on the same; elsewhere those cells are empty."""
    facts: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    """What is true of the whole episode: part of its ground truth."""


def walled(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width) of walls: rooms are cut into it."""
    return np.full((height, width), WALL, np.uint8)


def color_number(name: str) -> int:
    """The number of a colour; raises `ValueError` with the list for one that MiniGrid does not have."""
    if name not in COLORS:
        raise ValueError(f"color: expected one of {', '.join(COLORS)}, got {name!r}")
    return COLOR_NAMES.index(name)


def check_colors(setting: str, names: tuple[str, ...], at_least: int = 1) -> None:
    """Raise `ValueError`, naming the setting, unless `names` are that many different colours of MiniGrid or more."""
    known = isinstance(names, tuple) and all(name in COLOR_NAMES for name in names)
    if not known or len(set(names)) < at_least or len(set(names)) < len(names):
        raise ValueError(f"{setting}: expected {at_least} or more different ones of {', '.join(COLORS)}, got {names!r}")
