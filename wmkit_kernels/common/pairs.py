"""States of state space models as pairs of real numbers, and sequences with the channels first.

A system keeps one complex number of each conjugate pair, so an inner product over the whole state is 2 Re over the half
that is kept. Callers hold a state as (..., N, 2) real; matrix products take it as a row of 2N numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def inner(x: Tensor, y: Tensor) -> Tensor:
    """2 Re sum_n x_n y_n, the axis kept: (..., N), (..., N) complex -> (..., 1) real."""
    return 2 * (x * y).real.sum(-1, keepdim=True)


def row(x: Tensor) -> Tensor:
    """A row that acts on (Re, Im) pairs as s -> 2 Re(x s): (..., N) complex -> (..., 2N) real."""
    return column(2 * x.conj())


def column(x: Tensor) -> Tensor:
    """(Re, Im) pairs: (..., N) complex -> (..., 2N) real."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def channels_first(u: Tensor) -> Tensor:
    """(B, T, H) -> (H, B, T), as the transpose of one matrix, which copies faster than a permutation."""
    return u.flatten(0, 1).t().contiguous().view(u.shape[2], u.shape[0], u.shape[1])


def state_to_rows(u: Tensor, pairs: int, state: Tensor | None) -> Tensor:
    """The state before the first step of u (B, T, H), zeros for None: (B, H, N, 2) -> (H, B, 2N)."""
    if state is None:
        return u.new_zeros(u.shape[2], u.shape[0], 2 * pairs)
    return state.to(u.dtype).contiguous().flatten(2).transpose(0, 1)


def rows_to_state(rows: Tensor) -> Tensor:
    """(H, B, 2N) -> (B, H, N, 2), the inverse of `state_to_rows`."""
    return rows.transpose(0, 1).reshape(rows.shape[1], rows.shape[0], -1, 2)


def check_sequence(pairs: int, channels: int, u: Tensor, state: Tensor | None, is_first: Tensor | None) -> None:
    """Raise `ValueError` unless u is (B, T >= 1, H) real, the state (B, H, N, 2) real, is_first (B, T) bool.

    The state and is_first may be None.
    """
    if u.ndim != 3 or u.shape[1] < 1 or u.shape[2] != channels or not u.is_floating_point():
        raise ValueError(f"expected u (B, T >= 1, H = {channels}) real, got {tuple(u.shape)} of {u.dtype}")
    expected = (u.shape[0], channels, pairs, 2)
    if state is not None and (state.shape != expected or not state.is_floating_point()):
        raise ValueError(f"expected state (B, H, N, 2) = {expected} real, got {tuple(state.shape)} of {state.dtype}")
    if is_first is not None and (is_first.shape != u.shape[:2] or is_first.dtype != torch.bool):
        raise ValueError(
            f"expected is_first (B, T) = {tuple(u.shape[:2])} bool, got {tuple(is_first.shape)} of {is_first.dtype}"
        )
