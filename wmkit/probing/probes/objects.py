"""Where are the objects? The second probe of Memory Maze (Pasukonis et al. 2022), and the same in cells."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from wmkit.data import Episode
from wmkit.probing.base import NEVER, Array, Probe, register_probe, since_last
from wmkit.probing.view import objects_in_view


@register_probe("objects")
class Objects(Probe):
    """The vector to each of k objects in the walker's own frame, [right, forward] in cells.

    4 hidden layers of 400, half the squared error, summed; its score is the squared error summed over the two
    coordinates, a mean over objects.
    """

    keys = ("targets_vec", "maze_layout", "agent_pos", "agent_dir")
    unit = "cells^2"
    better: ClassVar[Literal["lower", "higher"]] = "lower"
    label = "squared error of the objects' places"

    def target(self, episode: Episode) -> Array:
        return np.asarray(episode["targets_vec"], np.float32)

    def delay(self, episode: Episode) -> Array:
        return since_last(objects_in_view(episode))


@register_probe("object_recall")
class ObjectRecall(Objects):
    """As `objects`, asked for only of objects that have been in view, and scored by the distance in cells."""

    unit = "cells"
    of_view = True
    label = "distance to where the objects are"

    def counts(self, delay: Tensor | None, target: Tensor) -> Tensor | None:
        assert delay is not None, "objects have delays"
        return delay != NEVER

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).norm(dim=-1)
