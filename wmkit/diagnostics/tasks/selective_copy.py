"""Selective copy: keep a few marked symbols out of a stream of others, and say them in order."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit.diagnostics.base import NOT_ASKED, Sequences, Task, commonest, register_task

ITEMS, KINDS = 4, 4


@register_task("selective_copy")
class SelectiveCopy(Task):
    """4 symbols of 4 kinds at random places among blanks, then 4 steps of a sign that asks for them one by one.

    Where the symbols stand differs from row to row, so that what is kept must depend on what is seen, which no fixed
    filter does (Gu and Dao, Mamba, 2023). Longer sequences have more blanks.
    """

    order = 3
    title, level_name = "selective copy", "steps"
    symbols, classes = (KINDS + 2,), KINDS  # the kinds, the blank, the sign
    length, levels = 32, (32, 64, 128)
    grows = True

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        stream = length - ITEMS
        places = torch.rand(rows, stream, generator=generator).topk(ITEMS).indices.sort().values  # (B, 4)
        items = torch.randint(KINDS, (rows, ITEMS), generator=generator)
        shown = torch.full((rows, length), KINDS)
        shown.scatter_(1, places, items)
        shown[:, stream:] = KINDS + 1
        answers = torch.full_like(shown, NOT_ASKED)
        answers[:, stream:] = items
        return Sequences(shown[..., None], answers[..., None], torch.full_like(shown, length)[..., None])

    def unbound(self, truth: Sequences) -> Tensor:
        """The commonest of the symbols, as from a bag."""
        shown = truth.inputs[..., 0]
        return commonest(shown, shown < KINDS, KINDS + 2)[:, None, None].expand_as(truth.answers)
