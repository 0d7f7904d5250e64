"""Overwrite: the newest value of a key, while keys are written to again and again."""

from __future__ import annotations

import torch

from wmkit.diagnostics.base import NOT_ASKED, Sequences, StateTracking, register_task

KEYS, VALUES = 4, 4


@register_task("overwrite")
class Overwrite(StateTracking):
    """4 keys, each written once, then at each step, by a coin, a key gets a new value or is asked for its newest.

    What was written before must be forgotten: an average over all writes of a key does not answer.
    """

    order, steps = 10, 800
    title = "overwrite"
    symbols, classes = (KEYS, VALUES + 1), VALUES  # the last symbol beside a key asks for its value

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        key = torch.randint(KEYS, (rows, length), generator=generator)
        key[:, :KEYS] = torch.arange(KEYS)
        value = torch.randint(VALUES, (rows, length), generator=generator)
        asked = torch.rand(rows, length, generator=generator) < 0.5
        asked[:, :KEYS] = False
        time = torch.arange(length)
        writes = (key[:, None, :] == key[:, :, None]) & ~asked[:, None, :] & (time <= time[:, None])  # (B, T, T)
        newest = (writes * (time + 1)).amax(2) - 1  # (B, T): when the key of this step was last written
        answers = value.gather(1, newest).masked_fill(~asked, NOT_ASKED)
        shown = torch.stack([key, value.masked_fill(asked, VALUES)], dim=2)
        return self.tracked(shown, answers[..., None])
