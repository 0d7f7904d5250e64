"""Linear memory capacity: how much of a random signal's past a linear readout finds in the features."""

from __future__ import annotations

import torch

from wmkit.diagnostics.base import Sequences, Task, delayed, register_task


@register_task("memory_capacity")
class MemoryCapacity(Task):
    """MC = sum over delays k of R^2(k), of u_{t-k} read linearly from the features at t, u uniform in [-1, 1].

    At most the number of features (Jaeger, Short term memory in echo state networks, 2001).
    """

    order = 0
    title, level_name = "memory capacity", "delay"
    numbers, answers, classes = 1, 64, None
    length, levels = 96, range(1, 65)
    rows, steps = 16, 400
    capacity = True

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        signal = 2 * torch.rand(rows, length, 1, generator=generator) - 1
        past = torch.cat([delayed(signal, delay) for delay in self.levels], dim=2)  # (B, T, 64)
        past[:, : self.answers] = torch.nan  # from the first step on that has all 64 delays behind it
        return Sequences(signal, past, torch.tensor(self.levels).expand_as(past))
