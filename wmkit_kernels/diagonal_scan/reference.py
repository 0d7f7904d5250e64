"""`diagonal_scan` from the definition, one step after the other, in the precision of the inputs: give it doubles."""

from __future__ import annotations

import torch
from torch import Tensor


def diagonal_scan(a: Tensor, b: Tensor, initial_state: Tensor | None = None, is_first: Tensor | None = None) -> Tensor:
    """See `wmkit_kernels.diagonal_scan.op.diagonal_scan`; differentiable by autograd."""
    a = a.expand(b.shape)
    dtype = torch.promote_types(a.dtype, b.dtype)
    state = torch.zeros_like(b[:, 0], dtype=dtype) if initial_state is None else initial_state.to(dtype)
    states = []
    for t in range(b.shape[1]):
        if is_first is not None:
            state = torch.where(is_first[:, t, None], 0, state)
        state = a[:, t] * state + b[:, t]
        states.append(state)
    return torch.stack(states, dim=1)
