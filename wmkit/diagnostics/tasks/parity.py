"""Parity: whether the ones so far are odd in number, at every step."""

from __future__ import annotations

import torch

from wmkit.diagnostics.base import Sequences, StateTracking, register_task


@register_task("parity")
class Parity(StateTracking):
    """Bits at random; the answer at t is their sum up to t, modulo 2. The smallest group word: Z_2."""

    order, steps = 5, 800
    title = "parity"
    symbols, classes = (2,), 2

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        bits = torch.randint(2, (rows, length, 1), generator=generator)
        return self.tracked(bits, bits.cumsum(1) % 2)
