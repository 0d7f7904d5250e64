"""`dplr_scan` from the definition: dense matrices over the full state, one step at a time, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit_kernels.dplr_kernel.reference import dense_system, full


def dplr_scan(
    Lambda: Tensor,
    P: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    is_first: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """See `wmkit_kernels.dplr_scan.op.dplr_scan`; the results are float64."""
    batch, length, channels = u.shape
    inverse, Abar = (torch.stack(x) for x in zip(*(dense_system(Lambda, P, step) for step in dt), strict=True))
    Bbar = torch.einsum("hij,j->hi", inverse, full(B)) * dt.double()[:, None]
    half = torch.zeros(batch, channels, Lambda.shape[0], 2) if state is None else state
    x, outputs = full(torch.view_as_complex(half.double())), []
    for t in range(length):
        if is_first is not None:
            x = torch.where(is_first[:, t, None, None], 0, x)
        x = torch.einsum("hij,bhj->bhi", Abar, x) + Bbar * u[:, t, :, None]
        outputs.append((full(C) * x).sum(-1).real)
    return torch.stack(outputs, dim=1), torch.view_as_real(x[..., : Lambda.shape[0]])
