"""`dplr_kernel` from the definition: dense matrices, one channel and one step at a time, in double precision.

`dtype=torch.complex64` makes the same in single precision, to see what rounding alone costs.
"""

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


def dplr_kernel(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int, dtype: torch.dtype = torch.complex128
) -> Tensor:
    """See `wmkit_kernels.dplr_kernel.op.dplr_kernel`; the result is float64, or float32 for complex64."""
    kernels = []
    for c, step in zip(C, dt, strict=True):
        inverse, Abar = dense_system(Lambda, P, step, dtype)
        inputs = full(B, dtype) @ (inverse * step.to(dtype.to_real())).mT
        kernels.append(_unroll(Abar, inputs, full(c, dtype), length))
    return torch.stack(kernels, dim=-2)


def _unroll(Abar: Tensor, x: Tensor, c: Tensor, length: int) -> Tensor:
    outputs = []
    for _ in range(length):
        outputs.append((c * x).sum(-1).real)
        x = x @ Abar.mT
    return torch.stack(outputs, dim=-1)
