"""`fft_conv` from the definition, by the lower triangular Toeplitz matrix of each channel, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor


def fft_conv(k: Tensor, u: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """See `wmkit_kernels.fft_conv.op.fft_conv`; works in `dtype`: single precision shows what rounding alone costs."""
    steps = torch.arange(u.shape[1], device=u.device)
    lag = steps[:, None] - steps
    toeplitz = k.to(dtype)[:, lag.clamp(min=0)] * (lag >= 0)
    return torch.einsum("hts,bsh->bth", toeplitz, u.to(dtype))
