"""`dplr_kernel` from the definition: dense matrices, one channel and one step at a time, in double precision.

`dtype=torch.complex64` makes the same in single precision, to see what rounding alone costs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit_kernels.dplr.system import dense_system, full


def dplr_kernel(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int, dtype: torch.dtype = torch.complex128
) -> Tensor:
    """See `wmkit_kernels.dplr_kernel.op.dplr_kernel`; the result is float64, or float32 for complex64."""
    kernels = []
    for c, step in zip(C, dt, strict=True):
        inverse, Abar = dense_system(Lambda, P, step, dtype)
        x, k = full(B, dtype) @ (inverse * step.to(dtype.to_real())).mT, []  # (..., 2N)
        for _ in range(length):
            k.append((full(c, dtype) * x).sum(-1).real)
            x = x @ Abar.mT
        kernels.append(torch.stack(k, dim=-1))
    return torch.stack(kernels, dim=-2)
