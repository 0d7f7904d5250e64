"""`dplr_scan` from the definition: dense matrices over the full state, one step at a time, in double precision.

`dtype=torch.complex64` makes the same in single precision, to see what rounding alone costs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit_kernels.dplr.system import dense_system, full


def dplr_scan(
    Lambda: Tensor,
    P: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    is_first: Tensor | None = None,
    dtype: torch.dtype = torch.complex128,
) -> tuple[Tensor, Tensor]:
    """See `wmkit_kernels.dplr_scan.op.dplr_scan`; the results are float64, or float32 for complex64."""
    batch, length, channels = u.shape
    real = dtype.to_real()
    systems = (dense_system(Lambda, P, step, dtype) for step in dt)
    inverse, Abar = (torch.stack(x) for x in zip(*systems, strict=True))
    Bbar = torch.einsum("hij,j->hi", inverse, full(B, dtype)) * dt.to(real)[:, None]
    half = torch.zeros(batch, channels, Lambda.shape[0], 2) if state is None else state
    x, outputs = full(torch.view_as_complex(half.to(real)), dtype), []
    for t in range(length):
        if is_first is not None:
            x = torch.where(is_first[:, t, None, None], 0, x)
        x = torch.einsum("hij,bhj->bhi", Abar, x) + Bbar * u[:, t, :, None]
        outputs.append((full(C, dtype) * x).sum(-1).real)
    return torch.stack(outputs, dim=1), torch.view_as_real(x[..., : Lambda.shape[0]])
