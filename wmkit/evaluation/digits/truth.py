"""What is so in a world of moving digits, how good an answer about it is, and what a belief in it looks like.

A belief is two distributions: over the ten classes, and over places on a grid. The picture is cut into 16x16 cells. A
digit's picture with its margin is 7 cells wide, so its middle never lies outside the middles of the inner 10x10 cells;
a place between those is a bilinear mixture of the nearest four. With K digits the true distributions are the means over
them: a digit has mass 1 / K in each.
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from wmkit.batch import Batch

KEYS = ("digit_identity", "digit_pos")
"""Ground truth that a world of moving digits gives with each step."""
IDENTITY, POSITION = "identity_accuracy", "position_error"
CLASSES = 10
CELLS, GRID, MARGIN = 16, 10, 3
"""Cells on a side of the picture; those where a digit's middle can be; those before them."""
PLACES = GRID * GRID
TAKEN = 1.5
"""A digit that is found takes its mass 1 / K with it, and half as much again: where the belief in one digit is too
strong, what it leaves is no second digit of that kind, or at that place; where there are two, 0.5 / K remain."""
WINDOW = 3
"""Cells on a side of the window that a digit's mass is gathered from: the four of a mixture lie within one."""


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

    def __getitem__(self, place: Tensor | slice | tuple[slice, ...]) -> Digits:
        """Some rows, or some rows and steps."""
        return Digits(self.identity[place], self.position[place])

    def flat(self) -> Digits:
        """(B, T, K) and (B, T, K, 2) -> (B x T, K) and (B x T, K, 2)."""
        return Digits(self.identity.flatten(0, 1), self.position.flatten(0, 1))


def judge(read: Digits, truth: Digits) -> dict[str, Tensor]:
    """How good an answer is, for each step (...,).

    `identity_accuracy`: how many of the K digits are named, over K; (3, 3) for (3, 5) is one half. `position_error`:
    the distance in pixels to the true middle, mean over the K digits, in the assignment with the smallest mean. Who is
    where is not asked: identity and position can be lost apart from each other.
    """
    named = torch.minimum(_counts(read.identity), _counts(truth.identity)).sum(-1) / truth.number
    apart = (read.position.unsqueeze(-2) - truth.position.unsqueeze(-3)).norm(dim=-1)  # (..., K, K)
    rows, orders = torch.arange(apart.shape[-1]), itertools.permutations(range(apart.shape[-1]))
    distances = torch.stack([apart[..., rows, list(order)].mean(-1) for order in orders])  # (K!, ...)
    return {IDENTITY: named, POSITION: distances.amin(0)}


def chart(truth: Digits, side: int) -> tuple[Tensor, Tensor]:
    """The true distributions over classes (..., 10) and over places (..., 100), for pictures `side` pixels wide."""
    return _counts(truth.identity) / truth.number, _mixtures(truth.position, side).mean(-2)


def joint_chart(truth: Digits, side: int) -> Tensor:
    """The true distribution over class and place together (..., 10, 100)."""
    classes = F.one_hot(truth.identity, CLASSES).float()
    return torch.einsum("...kc,...kp->...cp", classes, _mixtures(truth.position, side)) / truth.number


def read_chart(classes: Tensor, places: Tensor, number: int, side: int) -> Digits:
    """The K = `number` digits that distributions over classes (..., 10) and places (..., 100) speak of.

    Again and again the likeliest class, and the middle of the fullest window, which then have `TAKEN` / K less.
    """
    named: list[Tensor] = []
    for _ in range(number):
        named.append(classes.argmax(-1))
        classes = classes - F.one_hot(named[-1], CLASSES) * (TAKEN / number)
    rest = places.reshape(-1, 1, GRID, GRID)
    along = torch.arange(GRID, device=places.device, dtype=rest.dtype)
    found = []
    for _ in range(number):
        held = F.avg_pool2d(rest, WINDOW, stride=1, padding=WINDOW // 2) * WINDOW**2
        top = held.flatten(1).argmax(-1)
        row, column = (top // GRID)[:, None, None], (top % GRID)[:, None, None]
        inside = ((along[:, None] - row).abs() <= WINDOW // 2) & ((along - column).abs() <= WINDOW // 2)
        taken = rest.squeeze(1) * inside  # (N, 10, 10)
        mass = taken.sum((-2, -1)).clamp(min=1e-12)
        found.append(torch.stack([taken.sum(-2) @ along, taken.sum(-1) @ along], dim=-1) / mass[:, None])
        share = (TAKEN / (number * mass)).clamp(max=1)
        rest = rest - (taken * share[:, None, None]).unsqueeze(1)
    middle = (torch.stack(found, dim=1) + MARGIN + 0.5) * (side / CELLS)  # (N, K, 2)
    return Digits(torch.stack(named, dim=-1), middle.reshape(*places.shape[:-1], number, 2))


def _counts(identity: Tensor) -> Tensor:
    """How often each digit is among (..., K) -> (..., 10) float32."""
    return F.one_hot(identity, CLASSES).sum(-2).float()


def _mixtures(position: Tensor, side: int) -> Tensor:
    """(..., 2) in pixels -> (..., 100), row by row."""
    cell = (position * (CELLS / side) - MARGIN - 0.5).clamp(0, GRID - 1).unsqueeze(-1)
    across, down = (1 - (cell - torch.arange(GRID, device=position.device)).abs()).clamp(min=0).unbind(-2)
    return rearrange(down.unsqueeze(-1) * across.unsqueeze(-2), "... row column -> ... (row column)")
