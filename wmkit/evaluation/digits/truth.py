"""What is so in a world of moving digits, and how good an answer about it is."""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import Tensor

from wmkit.batch import Batch

KEYS = ("digit_identity", "digit_pos")
"""Ground truth that a world of moving digits gives with each step."""
IDENTITY, POSITION = "identity_accuracy", "position_error"
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Digits:
    """The K digits of every step, in no order: what is true, or what a probe has read."""

    identity: Tensor
    """(..., K) int64, 0 to 9; the same one twice counts twice."""
    position: Tensor
    """(..., K, 2) float32: (x, y) of their middles in pixels from the upper left corner."""

    @classmethod
    def of(cls, batch: Batch) -> Digits:
        """(B, T, K) and (B, T, K, 2) from a batch that has `KEYS` as extras."""
        return cls(batch.extras["digit_identity"], batch.extras["digit_pos"].float())

    @property
    def number(self) -> int:
        """The number of digits of a step, K."""
        return self.identity.shape[-1]

    def __getitem__(self, place: tuple[slice, ...] | slice) -> Digits:
        """Some rows, or some rows and steps."""
        return Digits(self.identity[place], self.position[place])


def judge(read: Digits, truth: Digits) -> dict[str, Tensor]:
    """How good an answer is, for each step (...,).

    `identity_accuracy`: how many of the K digits are named, over K; (3, 3) for (3, 5) is one half. `position_error`:
    the distance in pixels to the true middle, mean over the K digits, in the assignment with the smallest mean. Who is
    where is not asked: identity and position can be lost apart from each other.
    """
    named = torch.minimum(counts(read.identity), counts(truth.identity)).sum(-1) / truth.number
    return {IDENTITY: named, POSITION: _distance(read.position, truth.position)}


def counts(identity: Tensor) -> Tensor:
    """How often each digit is among (..., K) -> (..., 10) float32."""
    return torch.nn.functional.one_hot(identity, CLASSES).sum(-2).float()


def _distance(read: Tensor, truth: Tensor) -> Tensor:
    """(...,) of (..., K, 2): the smallest mean distance over all K! assignments."""
    apart = (read.unsqueeze(-2) - truth.unsqueeze(-3)).norm(dim=-1)
    number = apart.shape[-1]
    rows = torch.arange(number)
    sums = [apart[..., rows, list(order)].mean(-1) for order in itertools.permutations(range(number))]
    return torch.stack(sums).amin(0)
