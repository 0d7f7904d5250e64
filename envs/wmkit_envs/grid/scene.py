"""One episode of a tile world before anything moves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.grid.tiles import WALL

NOWHERE = -1


@dataclasses.dataclass(frozen=True)
class GridScene:
    """The map and what the episode is about. Cells are (x, y), x to the right and y down, (0, 0) is a corner wall."""

    cells: NDArray[np.uint8]
    """(H, W) what each cell holds (`wmkit_envs.grid.tiles`)."""
    start: tuple[int, int, int]
    """x, y and heading of the agent."""
    exits: tuple[tuple[int, int], tuple[int, int]] = ((NOWHERE, NOWHERE), (NOWHERE, NOWHERE))
    """Cells that end the episode with reward 1 and with reward 0."""
    watched: tuple[tuple[int, int], ...] = ()
    """Cells whose contents an episode's record follows."""
    facts: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    """What is true of the whole episode: part of its ground truth."""


def walled(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width) of walls: rooms are cut into it."""
    return np.full((height, width), WALL, np.uint8)
