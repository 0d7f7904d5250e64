"""What is in view, from an episode's ground truth alone: cells and objects of mazes, places of tile worlds.

Archives of others have no record of it, and wmkit knows no world by its code: the camera is that of the 3D worlds
(docs/worlds.md), which is Memory Maze's: `CAMERA_AHEAD` cells in front of the walker, 80 degrees wide, walls hide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from wmkit.data import Episode

# The ray caster of the 3D worlds has these two as well. They are not imported: wmkit works without worlds, and that
# module brings Numba, seconds of every `import wmkit.probing`; tests/probing/test_view.py holds them together.
CAMERA_AHEAD = 0.075
"""In cells, of `agent_pos`."""
HALF_VIEW = math.tan(math.radians(80 / 2))
"""Of a ray one cell ahead, its largest way to a side."""
RAYS = 64
"""Across the view: one for each column of a 64x64 image."""
TILES = 2
"""Tile worlds show so many cells on each side of the agent."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def _march(layout: npt.NDArray[np.generic], start: Floats, ray: Floats) -> Iterator[tuple[Ints, Floats, Bools]]:
    """From border to border of the cells along start + depth * ray, (..., 2) each: the cells (..., 2) as (x, y), the
    depth (...,) at which each is entered, and whether its ray came so far; a ray ends in the wall that it meets.
    """
    height, width = layout.shape
    cell = np.floor(start).astype(np.int64)
    with np.errstate(divide="ignore"):
        per_cell = np.abs(1 / ray)
    ahead = ray > 0
    with np.errstate(invalid="ignore"):  # 0 * infinity where a ray is parallel to an axis and begins on a border
        border = np.where(ray == 0, np.inf, np.where(ahead, cell + 1 - start, start - cell) * per_cell)
    depth, goes = np.zeros(start.shape[:-1]), np.ones(start.shape[:-1], bool)
    while goes.any():
        yield cell, depth, goes
        inside = ((cell >= 0) & (cell < (width, height))).all(-1)
        row, column = (np.clip(cell[..., axis], 0, side - 1) for axis, side in ((1, height), (0, width)))
        goes = goes & inside & (layout[row, column] != 0)
        axis = border.argmin(-1)[..., None]
        depth = np.take_along_axis(border, axis, -1)[..., 0]
        along = np.arange(2) == axis  # (..., 2)
        cell = cell + np.where(along, np.where(ahead, 1, -1), 0)
        border = border + np.where(along, per_cell, 0)


def _camera(episode: Episode) -> tuple[Floats, Floats, Floats]:
    """Where the camera is, its direction, and what is to its right, (T, 2) each."""
    forward = np.asarray(episode["agent_dir"], np.float64)
    return (
        np.asarray(episode["agent_pos"], np.float64) + CAMERA_AHEAD * forward,
        forward,
        np.stack([forward[:, 1], -forward[:, 0]], axis=1),
    )


def _view(episode: Episode) -> tuple[Floats, Floats]:
    """Where the rays across the view begin, and whither they go, (T, RAYS, 2) each."""
    start, forward, right = _camera(episode)
    across = HALF_VIEW * (2 * (np.arange(RAYS) + 0.5) / RAYS - 1)
    ray = forward[:, None] + across[:, None] * right[:, None]
    return np.broadcast_to(start[:, None], ray.shape), ray


def cells_in_view(episode: Episode) -> Bools:
    """(T, h, w): the cells of `maze_layout` (h, w), row 0 at the bottom, that some ray of the view enters; walls that a
    ray ends in are among them.
    """
    layout = episode["maze_layout"]
    start, ray = _view(episode)
    seen = np.zeros((len(start), *layout.shape), bool)
    step = np.broadcast_to(np.arange(len(start))[:, None], ray.shape[:2])
    for cell, _, goes in _march(layout, start, ray):
        x, y = cell[..., 0], cell[..., 1]
        here = goes & (x >= 0) & (y >= 0) & (x < layout.shape[1]) & (y < layout.shape[0])
        seen[step[here], y[here], x[here]] = True
    return seen


def sides_in_view(episode: Episode) -> Bools:
    """(T, 4): the outer walls of `maze_layout` in which some ray of the view ends, counter-clockwise from the lower."""
    layout = episode["maze_layout"]
    start, ray = _view(episode)
    seen = np.zeros((len(start), 4), bool)
    for cell, _, goes in _march(layout, start, ray):
        x, y = cell[..., 0], cell[..., 1]
        beyond = np.stack([y < 0, x >= layout.shape[1], y >= layout.shape[0], x < 0], axis=-1)  # (T, RAYS, 4)
        seen |= (goes[..., None] & beyond).any(1)
    return seen


def objects_in_view(episode: Episode) -> Bools:
    """(T, k): the objects whose centres are in view, at `targets_vec` (T, k, 2) from the walker as [right, forward]."""
    start, forward, right = _camera(episode)
    offset = np.asarray(episode["targets_vec"], np.float64)
    across, ahead = offset[..., 0], offset[..., 1] - CAMERA_AHEAD  # (T, k)
    within = (ahead > 0) & (np.abs(across) <= HALF_VIEW * ahead)
    ray = across[..., None] * right[:, None] + ahead[..., None] * forward[:, None]  # (T, k, 2), 1 deep at the object
    reach = np.zeros(within.shape)
    for _, depth, goes in _march(episode["maze_layout"], np.broadcast_to(start[:, None], ray.shape), ray):
        reach = np.where(goes, depth, reach)  # of the last cell that a ray enters: the wall
    return within & (reach > 1)


def places_in_view(episode: Episode, places: npt.NDArray[np.generic]) -> Bools:
    """(T, *entries): of places (*entries, 2) in cells of a tile world those that its picture shows."""
    position = np.asarray(episode["agent_pos"], np.float64)  # (T, 2)
    apart = np.asarray(places, np.float64)[None] - position.reshape(-1, *[1] * (np.ndim(places) - 1), 2)
    return np.asarray((np.abs(apart) <= TILES).all(-1))
