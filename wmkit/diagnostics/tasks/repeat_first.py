"""Repeat the first: the first symbol of a sequence must be known at every later step."""

from __future__ import annotations

import torch

from wmkit.diagnostics.base import NOT_ASKED, Sequences, Task, register_task


@register_task("repeat_first")
class RepeatFirst(Task):
    """Symbols of 4 at random; the answer at every step after the first is the first one (POPGym, Morad et al. 2023)."""

    order = 2
    title, level_name = "first symbol", "delay"
    symbols, classes = (4,), 4
    length = 64
    levels = (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 63, 64, 72, 80, 96, 104, 112, 120, 127, 160, 192, 232, 240, 248, 255)
    rows, steps = 16, 600
    grows = True

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        shown = torch.randint(4, (rows, length, 1), generator=generator)
        answers = shown[:, :1].repeat(1, length, 1)
        answers[:, 0] = NOT_ASKED
        return Sequences(shown, answers, torch.arange(length)[None, :, None].expand_as(answers))
