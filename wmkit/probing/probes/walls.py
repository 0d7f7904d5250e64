"""Where are the walls? The first probe of Memory Maze (Pasukonis et al. 2022); and which cells were ever in view."""

from __future__ import annotations

import numpy as np

from wmkit.data import Episode
from wmkit.probing.base import NEVER, Array, Probe, register_probe, since_last
from wmkit.probing.view import cells_in_view


@register_probe("walls")
class Walls(Probe):
    """Which of the n x n inner cells are walls: for each a choice of two. The pose is told, the map is not.

    4 hidden layers of 1024, the cross-entropy summed over cells; its score is the share of cells that are right.
    """

    keys = ("maze_layout", "agent_pos", "agent_dir")
    inputs = ("pose",)
    hidden = (1024, 1024, 1024, 1024)
    label = "cells of the maze told right"

    def target(self, episode: Episode) -> Array:
        layout = (episode["maze_layout"] != 0).astype(np.int64)  # (n, n)
        return np.broadcast_to(layout, (episode.length, *layout.shape))

    def delay(self, episode: Episode) -> Array | None:
        return since_last(cells_in_view(episode))


@register_probe("seen")
class Seen(Walls):
    """Which of the cells have been in view so far: the network and the inputs of `walls`."""

    of_view = True
    label = "cells of which it is right whether they were seen"

    def target(self, episode: Episode) -> Array:
        return (since_last(cells_in_view(episode)) != NEVER).astype(np.int64)

    def delay(self, episode: Episode) -> None:
        return None
