"""Path integration in a plane: where one is, from steps and turns."""

from __future__ import annotations

import math

import torch

from wmkit.diagnostics.base import Sequences, StateTracking, register_task

UNIT = 4.0
"""Of the answers, in mean ways: one ends a training sequence some 13 mean ways, 3 units, from its start."""


@register_task("path_integration")
class PathIntegration(StateTracking):
    """At each step a turn, uniform in [-pi/2, pi/2], and then a way forward, exponential with mean 1.

    Asked: the place (x, y) in the frame of the start. A way must be turned by the sum of all turns before it is added,
    so that a sum alone does not do it.
    """

    order = 9
    title = "path integration"
    numbers, answers, classes = 2, 2, None

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        turn = math.pi * (torch.rand(rows, length, 1, generator=generator) - 0.5)
        way = torch.empty(rows, length, 1).exponential_(generator=generator)
        heading = turn.cumsum(1)
        place = (way * torch.cat([heading.cos(), heading.sin()], dim=2)).cumsum(1)  # (B, T, 2)
        return self.tracked(torch.cat([way, turn], dim=2), place / UNIT)
