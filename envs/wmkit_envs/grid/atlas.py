"""Pictures of the tiles, and pictures of views made from them.

The shapes are those of MiniGrid's objects, drawn here with arrays (the tests compare every pixel with MiniGrid's own
renderer): a tile is drawn at three times its size, averaged over 3x3 blocks and rounded down.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.grid.scene import AGENT, COLORS, KEY, LOCKED, MAX_TILE, MIN_TILE, NUM_TILES, OPEN, SQUARE, WALL
from wmkit_envs.world import check_integer

if TYPE_CHECKING:
    from torch import Tensor

    Tiles = TypeVar("Tiles", NDArray[np.uint8], Tensor)

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Color = tuple[int, int, int]

SUBDIVISIONS = 3
LINE = 0.031
"""Width of the grid lines at the left and the top of a cell, in tiles."""
GREY: Color = (100, 100, 100)
BLACK: Color = (0, 0, 0)
SHADE = 0.45
"""Brightness of a locked door's panel."""


@functools.lru_cache
def make_atlas(tile_size: int) -> Picture:
    """(NUM_TILES, tile_size, tile_size, 3) uint8, read-only; raises `ValueError` for a size outside 4..64."""
    check_integer("tile", tile_size, MIN_TILE, MAX_TILE)
    canvases = [_Canvas(tile_size) for _ in range(NUM_TILES)]
    canvases[WALL].rectangle(0, 1, 0, 1, GREY)
    for heading in range(4):
        canvases[AGENT + heading].arrow(heading)
    for number, color in enumerate(COLORS.values()):
        canvases[SQUARE + number].rectangle(0, 1, 0, 1, color)
        canvases[KEY + number].key(color)
        canvases[LOCKED + number].locked_door(color)
        canvases[OPEN + number].open_door(color)
    atlas = np.stack([canvas.picture() for canvas in canvases])
    atlas.setflags(write=False)
    return atlas


def render_tiles(tiles: Tiles, atlas: Tiles) -> Tiles:
    """Pictures (..., h ts, w ts, 3) of tile numbers (..., h, w), atlas (n, ts, ts, 3); both numpy or both torch.

    With tensors it runs where they are: on a GPU, 25 bytes a frame are sent there instead of thousands.
    """
    *lead, height, width = tiles.shape
    size = atlas.shape[1]
    rows: Any = atlas.reshape(-1, size * 3)  # of pixels: rows of all tiles in the order in which the picture has them
    if isinstance(tiles, np.ndarray):
        pixels = rows.take(tiles[..., :, None, :].astype(np.intp) * size + np.arange(size)[:, None], axis=0)
    else:
        import torch  # there is a tensor, so somebody has paid for it already

        within = torch.arange(size, device=tiles.device)[:, None]
        pixels = rows[tiles[..., :, None, :].long() * size + within]
    return pixels.reshape(*lead, height * size, width * size, 3)


class _Canvas:
    """One tile at three times its size; coordinates in tiles, from the top left corner."""

    def __init__(self, tile_size: int) -> None:
        side = SUBDIVISIONS * tile_size
        centres = (np.arange(side) + 0.5) / side
        self._x, self._y = centres[None, :], centres[:, None]
        self._pixels = np.zeros((side, side, 3), np.uint8)
        self.rectangle(0, LINE, 0, 1, GREY)
        self.rectangle(0, 1, 0, LINE, GREY)

    def rectangle(self, left: float, right: float, top: float, bottom: float, color: Color) -> None:
        inside = (self._x >= left) & (self._x <= right) & (self._y >= top) & (self._y <= bottom)
        self._pixels[inside] = color

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        self._pixels[(self._x - x) ** 2 + (self._y - y) ** 2 <= radius * radius] = color

    def arrow(self, heading: int) -> None:
        """The agent: a red triangle whose tip points where it heads."""
        right, down = self._x - 0.5, self._y - 0.5
        ahead, aside = ((right, down), (down, -right), (-right, -down), (-down, right))[heading]
        # base at 0.12, tip at 0.87 of a tile; half as high as 0.31 at the base
        inside = (ahead >= 0.12 - 0.5) & (np.abs(aside) * 0.75 < 0.31 * (0.87 - 0.5 - ahead))
        self._pixels[inside] = COLORS["red"]

    def key(self, color: Color) -> None:
        self.rectangle(0.50, 0.63, 0.31, 0.88, color)  # shaft
        self.rectangle(0.38, 0.50, 0.59, 0.66, color)  # teeth
        self.rectangle(0.38, 0.50, 0.81, 0.88, color)
        self.disc(0.56, 0.28, 0.190, color)  # ring
        self.disc(0.56, 0.28, 0.064, BLACK)

    def locked_door(self, color: Color) -> None:
        red, green, blue = (int(SHADE * part) for part in color)
        self.rectangle(0, 1, 0, 1, color)
        self.rectangle(0.06, 0.94, 0.06, 0.94, (red, green, blue))
        self.rectangle(0.52, 0.75, 0.50, 0.56, color)  # key slot

    def open_door(self, color: Color) -> None:
        self.rectangle(0.88, 1, 0, 1, color)
        self.rectangle(0.92, 0.96, 0.04, 0.96, BLACK)

    def picture(self) -> Picture:
        side = len(self._pixels) // SUBDIVISIONS
        blocks = self._pixels.reshape(side, SUBDIVISIONS, side, SUBDIVISIONS, 3)
        return blocks.mean(3).mean(1).astype(np.uint8)
