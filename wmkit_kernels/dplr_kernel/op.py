"""The convolution kernel of a DPLR state space model."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit_kernels.dplr import check, discretise, discretise_input
from wmkit_kernels.orbits import orbit_series


def dplr_kernel(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int) -> Tensor:
    """k[..., h, l] = 2 Re(C_h Abar_h^l Bbar_h) for l < length, A = diag(Lambda) - P P^*, bilinear Abar and Bbar.

    `Lambda`, `P` (N,), `B` (..., N), `C` (H, N) complex, one of each conjugate pair; `dt` (H,) real and positive, with
    Re Lambda < 0. Returns (..., H, length) real, in the precision of `C`; differentiable in the five tensors.
    `B` is shared by the channels; its leading axes give a batch of kernels. States that differ by channel enter
    `dplr_scan` as `state`. Computed in double precision whatever comes in, without any (H, N, length) tensor.
    Raises `ValueError` for shapes or dtypes other than these.
    """
    check(Lambda, P, dt, B, C)
    if length < 1:
        raise ValueError(f"expected length >= 1, got {length}")
    discrete, inputs = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    starts = inputs.reshape(-1, *C.shape).transpose(0, 1)
    rows = torch.stack([discrete.row, C.to(torch.complex128)], dim=1)
    kernels = orbit_series(discrete, rows, starts, length)[:, 1]
    return kernels.transpose(0, 1).reshape(*inputs.shape[:-1], length).to(C.real.dtype)
