"""Where is the agent: its pose, and the room it is in?"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from wmkit.data import Episode
from wmkit.probing.base import Array, Probe, register_probe


@register_probe("pose")
class Pose(Probe):
    """`agent_pos` in cells and `agent_dir`; the score is the distance to the true position."""

    keys = ("agent_pos", "agent_dir")
    unit = "cells"
    better: ClassVar[Literal["lower", "higher"]] = "lower"
    label = "distance to where the agent is"

    def target(self, episode: Episode) -> Array:
        return np.concatenate([episode["agent_pos"], episode["agent_dir"]], axis=1).astype(np.float32)  # (T, 4)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target)[..., :2].norm(dim=-1)


@register_probe("room")
class Room(Probe):
    """The number of the room, one more class for doorways."""

    keys = ("room",)
    label = "rooms told right"

    def target(self, episode: Episode) -> Array:
        return episode["room"].astype(np.int64) + 1
