"""What a cell can hold, as numbers: the alphabet of maps, of 5x5 views and of the atlas.

The alphabet is MiniGrid's, as far as these worlds use it. `COLORS` and the order of the headings are MiniGrid's too.
"""

from __future__ import annotations

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
