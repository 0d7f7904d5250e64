"""The DPLR system from its definition, as dense matrices over the full state: what the references are made of."""

from __future__ import annotations

import torch
from torch import Tensor


def dense_system(Lambda: Tensor, P: Tensor, dt: Tensor, dtype: torch.dtype = torch.complex128) -> tuple[Tensor, Tensor]:
    """(1 - dt A / 2)^{-1} and Abar over the full state, (2N, 2N) complex, for one channel's scalar dt."""
    full_P = full(P, dtype)
    A = torch.diag(full(Lambda, dtype)) - full_P[:, None] * full_P.conj()
    eye = torch.eye(A.shape[0], dtype=dtype, device=A.device)
    half = dt.to(dtype.to_real()) / 2
    inverse = torch.linalg.inv(eye - half * A)
    return inverse, inverse @ (eye + half * A)


def full(half: Tensor, dtype: torch.dtype = torch.complex128) -> Tensor:
    """The state closed under conjugation: (..., N) -> (..., 2N) complex."""
    half = half.to(dtype)
    return torch.cat([half, half.conj()], dim=-1)
