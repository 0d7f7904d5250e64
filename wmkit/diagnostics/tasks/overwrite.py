"""Overwrite: the newest value of a key, while keys are written to again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit.diagnostics.base import NOT_ASKED, Sequences, StateTracking, commonest, register_task

KEYS, VALUES = 4, 4


@register_task("overwrite")
class Overwrite(StateTracking):
    """4 keys, each written once, then at each step, by a coin, a key gets a new value or is asked for its newest.

    What was written before must be forgotten: an average over all writes of a key does not answer.
    """

    order, steps = 10, 800
    title = "overwrite"
    symbols, classes = (KEYS, VALUES + 1), VALUES  # the last symbol beside a key asks for its value

    @staticmethod
    def newest(key: Tensor, written: Tensor) -> Tensor:
        """(B, T) keys, and whether each is written to -> (B, T, KEYS): when each was last written to, or -1."""
        steps = torch.arange(1, key.shape[1] + 1)[:, None]
        writes = (key[..., None] == torch.arange(KEYS)) & written[..., None]
        return (writes * steps).cummax(1).values - 1

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        key = torch.randint(KEYS, (rows, length), generator=generator)
        key[:, :KEYS] = torch.arange(KEYS)
        value = torch.randint(VALUES, (rows, length), generator=generator)
        asked = torch.rand(rows, length, generator=generator) < 0.5
        asked[:, :KEYS] = False
        newest = self.newest(key, ~asked).gather(2, key[..., None])[..., 0]  # (B, T): of the key of this step
        answers = value.gather(1, newest).masked_fill(~asked, NOT_ASKED)
        shown = torch.stack([key, value.masked_fill(asked, VALUES)], dim=2)
        return self.tracked(shown, answers[..., None])

    def unbound(self, truth: Sequences) -> Tensor:
        """The commonest of the newest values of all keys."""
        key, value = truth.inputs.unbind(2)  # (B, T) each
        newest = self.newest(key, value != VALUES)  # (B, T, KEYS)
        values = value.gather(1, newest.clamp(min=0).flatten(1)).reshape(newest.shape)
        return commonest(values, newest >= 0, VALUES)[..., None]
