"""Beliefs about digits as two distributions: over the ten classes, and over places on a grid.

The picture is cut into 16x16 cells. A digit's picture with its margin is 7 cells wide, so its middle never lies outside
the middles of the inner 10x10 cells; a place between those is a bilinear mixture of the nearest four. With K digits the
true distributions are the means over them: a digit has mass 1 / K in each.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wmkit.evaluation.digits.truth import CLASSES, Digits, counts

CELLS, GRID, MARGIN = 16, 10, 3
"""Cells on a side of the picture; those where a digit's middle can be; those before them."""
PLACES = GRID * GRID
TAKEN = 1.5
"""A digit that is found takes its mass 1 / K with it, and half as much again: where the belief in one digit is too
strong, what it leaves is no second digit of that kind, or at that place; where there are two, 0.5 / K remain."""
WINDOW = 3
"""Cells on a side of the window that a digit's mass is gathered from: the four of a mixture lie within one."""


def chart(truth: Digits, side: int) -> tuple[Tensor, Tensor]:
    """The true distributions over classes (..., 10) and over places (..., 100), for pictures `side` pixels wide."""
    return counts(truth.identity) / truth.number, _mixtures(truth.position, side).mean(-2)


def joint_chart(truth: Digits, side: int) -> Tensor:
    """The true distribution over class and place together (..., 10, 100)."""
    classes = F.one_hot(truth.identity, CLASSES).float()
    return torch.einsum("...kc,...kp->...cp", classes, _mixtures(truth.position, side)) / truth.number


def read_chart(classes: Tensor, places: Tensor, number: int, side: int) -> Digits:
    """The K = `number` digits that distributions over classes (..., 10) and places (..., 100) speak of."""
    return Digits(_read_classes(classes, number), _read_places(places, number, side))


def _mixtures(position: Tensor, side: int) -> Tensor:
    """(..., 2) in pixels -> (..., 100), row by row."""
    cell = (position * (CELLS / side) - MARGIN - 0.5).clamp(0, GRID - 1).unsqueeze(-1)
    across, down = (1 - (cell - torch.arange(GRID, device=position.device)).abs()).clamp(min=0).unbind(-2)
    return (down.unsqueeze(-1) * across.unsqueeze(-2)).flatten(-2)


def _read_classes(classes: Tensor, number: int) -> Tensor:
    """(..., K): again and again the likeliest class, which then has `TAKEN` / K less."""
    found, rest = [], classes
    for _ in range(number):
        found.append(rest.argmax(-1))
        rest = rest - F.one_hot(found[-1], CLASSES) * (TAKEN / number)
    return torch.stack(found, dim=-1)


def _read_places(places: Tensor, number: int, side: int) -> Tensor:
    """(..., K, 2): again and again the middle of the fullest window, which then has `TAKEN` / K less."""
    rest = places.reshape(-1, 1, GRID, GRID)
    along = torch.arange(GRID, device=places.device, dtype=rest.dtype)
    found = []
    for _ in range(number):
        held = F.avg_pool2d(rest, WINDOW, stride=1, padding=WINDOW // 2) * WINDOW**2
        top = held.flatten(1).argmax(-1)
        row, column = (top // GRID)[:, None, None], (top % GRID)[:, None, None]
        inside = ((along[:, None] - row).abs() <= WINDOW // 2) & ((along - column).abs() <= WINDOW // 2)
        taken = rest.squeeze(1) * inside
        mass = taken.sum((-2, -1)).clamp(min=1e-12)
        found.append(torch.stack([taken.sum(-2) @ along, taken.sum(-1) @ along], dim=-1) / mass[:, None])
        share = (TAKEN / (number * mass)).clamp(max=1)
        rest = rest - (taken * share[:, None, None]).unsqueeze(1)
    middle = (torch.stack(found, dim=1) + MARGIN + 0.5) * (side / CELLS)
    return middle.reshape(*places.shape[:-1], number, 2)
