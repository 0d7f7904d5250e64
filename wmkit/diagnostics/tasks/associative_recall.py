"""Associative recall of many pairs at once (MQAR), keys and values in one step."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit.diagnostics.base import NOT_ASKED, Sequences, Task, commonest, register_task

KEYS, VALUES = 64, 8


@register_task("associative_recall")
class AssociativeRecall(Task):
    """n pairs of a key and a value, a pair a step, each key once; then they are asked for, shuffled, over and over.

    Trained on n of 4, 8 and 16 (the longest takes 32 steps), judged at 16, 32 and 64. A pair is one step, as the
    embeddings of key and value side by side: continuous MQAR of Zoology (Arora et al. 2023; its release of 2026).
    """

    order = 4
    title, level_name = "associative recall", "pairs"
    symbols, classes = (KEYS, VALUES + 1), VALUES  # the last symbol beside a key asks for its value
    length, levels = 32, (4, 8, 16, 32, 64)

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        most = length // 2
        sizes = torch.tensor(self.sizes(length))
        pairs = sizes[torch.arange(rows) % len(sizes), None]  # (B, 1)
        keys = torch.rand(rows, KEYS, generator=generator).argsort()[:, :most]  # (B, most), each once
        values = torch.randint(VALUES, (rows, most), generator=generator)
        order = torch.rand(rows, most, generator=generator)
        order = order.masked_fill(torch.arange(most) >= pairs, 2.0).argsort()  # (B, most): the first n, shuffled
        time = torch.arange(length)
        place = torch.where(time < pairs, time, order.gather(1, (time - pairs).clamp(min=0) % pairs))  # (B, T)
        asked = time >= pairs
        value = values.gather(1, place)
        shown = torch.stack([keys.gather(1, place), value.masked_fill(asked, VALUES)], dim=2)  # (B, T, 2)
        answers = value.masked_fill(~asked, NOT_ASKED)
        return Sequences(shown, answers[..., None], pairs[..., None].expand(rows, length, 1))

    def sizes(self, length: int) -> list[int]:
        """The numbers of pairs that fit, each in as many rows of a batch."""
        return [level for level in self.levels if level <= length // 2]

    def held_out(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        return self.draw(generator, rows * len(self.sizes(length)), length)

    def unbound(self, truth: Sequences) -> Tensor:
        """The commonest value of all pairs."""
        value = truth.inputs[..., 1]
        return commonest(value, value < VALUES, VALUES + 1)[:, None, None].expand_as(truth.answers)

    def judged(self, length: int) -> list[int]:
        return [length // 2]
