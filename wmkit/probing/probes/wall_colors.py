"""Which colours have the walls ahead, to the left, behind and to the right? The question of Look Around."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wmkit.data import Episode
from wmkit.probing.base import Array, Probe, register_probe, since_last
from wmkit.probing.view import sides_in_view


@register_probe("wall_colors")
class WallColors(Probe):
    """The style of the outer wall ahead of the walker, to its left, behind it and to its right, each one of eight.

    Ahead is the wall that its direction is nearest to; `wall_styles` has them counter-clockwise from the lower one.
    """

    keys = ("wall_styles", "maze_layout", "agent_pos", "agent_dir")
    label = "walls whose colour is told right"

    def target(self, episode: Episode) -> Array:
        return episode["wall_styles"][_from_ahead(episode)]

    def delay(self, episode: Episode) -> Array:
        return np.take_along_axis(since_last(sides_in_view(episode)), _from_ahead(episode), axis=1)


def _from_ahead(episode: Episode) -> npt.NDArray[np.int64]:
    """(T, 4): the numbers of the walls ahead, to the left, behind and to the right."""
    right, up = np.asarray(episode["agent_dir"], np.float64).T
    ahead = np.round(np.arctan2(up, right) / (np.pi / 2)).astype(np.int64) + 1  # 0 is the lower wall, 1 the right one
    return (ahead[:, None] + np.arange(4)) % 4
