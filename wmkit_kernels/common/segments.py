"""Inputs that reach the steps of their own segment only: what a recurrence in spans of steps needs at resets.

A segment goes from one reset to the next. Inputs are chosen for each step, not multiplied by a mask: 0 times NaN is
NaN, and what came before a reset must leave no trace.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 16
"""Rows of (row, span) that go through one product: enough to be worth its call, few enough for a near cache."""


def by_segment(response: Tensor, u: Tensor, is_first: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each span of R steps, the last one shorter: (resets so far in it (B, R), what inputs add (H, B, K, R)).

    response (H, K, R, R): from input j to row t of K rows; u (H, B, T), is_first (B, T). No span depends on another, so
    that all go through the same products.
    """
    channels, batch, length = u.shape
    steps = response.shape[-1]
    whole = length // steps * steps
    for part, first in ((u[..., :whole], is_first[:, :whole]), (u[..., whole:], is_first[:, whole:])):
        size = min(steps, part.shape[2])
        if size:
            segment = first.reshape(-1, size).cumsum(1)  # (B S, R)
            maps = response[..., :size, :size].transpose(1, 2)  # (H, R, K, R)
            rows = part.reshape(channels, -1, size)  # (H, B S, R)
            pieces = zip(torch.split(rows, ROWS, dim=1), torch.split(segment, ROWS), strict=True)
            added = torch.cat([_chosen(maps, *piece) for piece in pieces], dim=1)  # (H, B S, K, R)
            spans = added.view(channels, batch, -1, *added.shape[2:]).unbind(2)
            yield from zip(segment.view(batch, -1, size).unbind(1), spans, strict=True)


def _chosen(maps: Tensor, u: Tensor, segment: Tensor) -> Tensor:
    """(H, R, K, R), (H, B, R), (B, R) -> (H, B, K, R)."""
    together = segment.t().contiguous().unsqueeze(2) == segment  # (R, B, R): step, row, input
    seen = torch.where(together, u.unsqueeze(1), 0)  # (H, R, B, R)
    return (maps @ seen.mT).permute(0, 3, 2, 1)
