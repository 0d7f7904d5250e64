"""`fft_conv` from the definition, by the lower triangular Toeplitz matrix of each channel, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor


def fft_conv(k: Tensor, u: Tensor) -> Tensor:
    """See `wmkit_kernels.fft_conv.op.fft_conv`; the result is float64."""
    steps = torch.arange(u.shape[1], device=u.device)
    lag = steps[:, None] - steps
    toeplitz = k.double()[:, lag.clamp(min=0)] * (lag >= 0)
    return torch.einsum("hts,bsh->bth", toeplitz, u.double())
