"""Sums over windows of steps: what a slow level reads of the frames (or actions) between its ticks."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import torch
from torch import Tensor


def sums_ahead(x: Tensor, ticks: Sequence[int]) -> Tensor:
    """Sum of x (B, T, E) from each tick to the step before the next one, or to the end: (B, ticks, E).

    The last window may be shorter, as if x were zero-padded on the right. Steps before the first tick enter nothing.
    """
    window = [bisect.bisect_right(ticks, t) - 1 for t in range(x.shape[1])]
    return _sums(x, window, len(ticks))


def sums_behind(
    x: Tensor, ticks: Sequence[int], carried: Tensor | None, is_first: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Sum of x (B, T, E) from the step after the last tick to each tick: (B, ticks, E); and what came after the last.

    carried (B, E): the sum of the steps before this call that no tick has read, if there are any. is_first (B, T): a
    tick where an episode begins reads its own step only.
    """
    ticking = set(ticks)
    window = [-1 if t in ticking else bisect.bisect_left(ticks, t) for t in range(x.shape[1])]
    between = _sums(x, window, len(ticks) + 1)
    if carried is not None:
        between = torch.cat([between[:, :1] + carried.unsqueeze(1), between[:, 1:]], dim=1)
    before, after = between[:, :-1], between[:, -1]
    if is_first is not None:
        before = before * ~is_first[:, list(ticks)].unsqueeze(-1)
    return before + x[:, list(ticks)].to(before.dtype), after


def _sums(x: Tensor, window: Sequence[int], number: int) -> Tensor:
    """Sum the steps t of x (B, T, E) by window[t] in 0..number-1 (-1: left out), in float32 or better."""
    member = torch.tensor(window, device=x.device) == torch.arange(number, device=x.device).unsqueeze(1)
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return torch.matmul(member.to(x.dtype), x)
