"""`dplr_kernel` from the definition: dense matrices, one channel and one step at a time, double."""

from __future__ import annotations

import torch
from torch import Tensor


def dense_system(Lambda: Tensor, P: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """(1 - dt A / 2)^{-1} and Abar over the full state, (2N, 2N) complex128, for one channel's scalar dt."""
    full_P = full(P)
    A = torch.diag(full(Lambda)) - full_P[:, None] * full_P.conj()
    eye = torch.eye(A.shape[0], dtype=A.dtype, device=A.device)
    inverse = torch.linalg.inv(eye - dt.double() / 2 * A)
    return inverse, inverse @ (eye + dt.double() / 2 * A)


def full(half: Tensor) -> Tensor:
    """The state closed under conjugation: (..., N) -> (..., 2N) complex128."""
    half = half.to(torch.complex128)
    return torch.cat([half, half.conj()], dim=-1)


def dplr_kernel(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int) -> Tensor:
    """See `wmkit_kernels.dplr_kernel.op.dplr_kernel`; the result is float64."""
    kernels = []
    for c, step in zip(C, dt, strict=True):
        inverse, Abar = dense_system(Lambda, P, step)
        kernels.append(_unroll(Abar, full(B) @ (inverse * step.double()).mT, c, length))
    return torch.stack(kernels, dim=-2)


def _unroll(Abar: Tensor, x: Tensor, c: Tensor, length: int) -> Tensor:
    outputs = []
    for _ in range(length):
        outputs.append((full(c) * x).sum(-1).real)
        x = x @ Abar.mT
    return torch.stack(outputs, dim=-1)
