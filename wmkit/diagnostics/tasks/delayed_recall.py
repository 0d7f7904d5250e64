"""Delayed recall: which symbol was shown k steps ago, at every step, for growing k."""

from __future__ import annotations

import torch

from wmkit.diagnostics.base import Sequences, Task, delayed, register_task


@register_task("delayed_recall")
class DelayedRecall(Task):
    """Symbols of 4 at random; answers at t: those of t - 1, t - 2, t - 4, ..., t - 48, each by a readout of its own.

    To answer for k at every step all of the last k symbols must be kept, so that short delays take nothing from long
    ones. RepeatPrevious of POPGym (Morad et al. 2023) with all k at once.
    """

    order = 1
    title, level_name = "delayed recall", "delay"
    symbols, answers, classes = (4,), 8, 4
    length, levels = 64, (1, 2, 4, 8, 16, 24, 32, 48)
    rows = 16

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        shown = torch.randint(4, (rows, length, 1), generator=generator)
        past = torch.cat([delayed(shown, delay) for delay in self.levels], dim=2)  # (B, T, 8)
        return Sequences(shown, past, torch.tensor(self.levels).expand_as(past))
