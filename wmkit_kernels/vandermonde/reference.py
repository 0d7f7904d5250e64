"""`vandermonde` from the definition, every power of every number, in the precision of the inputs: give it doubles."""

from __future__ import annotations

import torch
from torch import Tensor


def vandermonde(v: Tensor, log_x: Tensor, length: int) -> Tensor:
    """See `wmkit_kernels.vandermonde.op.vandermonde`; differentiable by autograd."""
    steps = torch.arange(length, device=v.device, dtype=log_x.real.dtype)
    powers = torch.exp(log_x.unsqueeze(-1) * steps)
    return 2 * (v.unsqueeze(-1) * powers).real.sum(-2)
