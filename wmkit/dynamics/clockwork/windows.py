"""Sums over windows of steps: what a slow level reads of the frames (or actions) between its ticks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def sums_ahead(x: Tensor, ticks: Sequence[int]) -> Tensor:
    """Sum of x (B, T, E) from each tick to the step before the next one, or to the end: (B, ticks, E).

    The last window may be shorter, as if x were zero-padded on the right. Steps before the first tick enter nothing.
    """
    return _sums(x, [0, *ticks, x.shape[1]])[:, 1:]


def sums_behind(
    x: Tensor, ticks: Sequence[int], carried: Tensor | None, is_first: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Sum of x (B, T, E) from the step after the last tick to each tick: (B, ticks, E); and what came after the last.

    carried (B, E): the sum of the steps before this call that no tick has read, if there are any. is_first (B, T): a
    tick where an episode begins reads its own step only.
    """
    sums = _sums(x, [0, *(t + 1 for t in ticks), x.shape[1]])
    if carried is not None:
        sums = torch.cat([sums[:, :1] + carried.unsqueeze(1), sums[:, 1:]], dim=1)
    read, after = sums[:, :-1], sums[:, -1]
    if is_first is not None:
        columns = list(ticks)
        read = torch.where(is_first[:, columns].unsqueeze(-1), x[:, columns].to(read.dtype), read)
    return read, after


def repeat_to_ticks(x: Tensor, numbers: Sequence[int]) -> Tensor:
    """x (B, m, C) at `numbers`, n of them in rising order: (B, n, C).

    What is repeated equally often lies side by side, so that each run of it is one copy, and one sum in the gradient.
    """
    runs = _runs([numbers.count(i) for i in range(x.shape[1])])
    pieces = torch.split(x, [n for _, n in runs], dim=1)
    return torch.cat(
        [
            piece.unsqueeze(2).expand(-1, -1, times, -1).flatten(1, 2)
            for piece, (times, _) in zip(pieces, runs, strict=True)
        ],
        dim=1,
    )


def _sums(x: Tensor, edges: Sequence[int]) -> Tensor:
    """Sum x (B, T, E) from each edge to before the next, 0 first and T last: (B, edges - 1, E), float32 or better.

    Windows of one width lie side by side, so that each run of them is one reduction.
    """
    runs = _runs([stop - start for start, stop in itertools.pairwise(edges)])
    pieces = torch.split(x, [steps * n for steps, n in runs], dim=1)
    dtype, batch_size, width = torch.promote_types(x.dtype, torch.float32), x.shape[0], x.shape[2]
    return torch.cat(
        [
            piece.reshape(batch_size, n, steps, width).sum(2, dtype=dtype)
            for piece, (steps, n) in zip(pieces, runs, strict=True)
        ],
        dim=1,
    )


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours that are equal, as (number, how many)."""
    return [(number, len(list(run))) for number, run in itertools.groupby(numbers)]
