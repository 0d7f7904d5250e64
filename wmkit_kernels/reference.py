"""The ops from their definitions, one step or one dense matrix at a time, for tests and benchmarks to compare with.

`dplr_kernel`, `dplr_scan` and `fft_conv` work in double precision unless asked for single precision, which shows what
rounding alone costs; `diagonal_scan` and `vandermonde` work in the precision of their inputs: give them doubles.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dplr_kernel(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int, dtype: torch.dtype = torch.complex128
) -> Tensor:
    """See `wmkit_kernels.dplr_kernel`; the result is float64, or float32 for complex64."""
    kernels = []
    for c, step in zip(C, dt, strict=True):
        inverse, Abar = dense_system(Lambda, P, step, dtype)
        x, k = full(B, dtype) @ (inverse * step.to(dtype.to_real())).mT, []  # (..., 2N)
        for _ in range(length):
            k.append((full(c, dtype) * x).sum(-1).real)
            x = x @ Abar.mT
        kernels.append(torch.stack(k, dim=-1))
    return torch.stack(kernels, dim=-2)


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
    """See `wmkit_kernels.dplr_scan`; the results are float64, or float32 for complex64."""
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


def diagonal_scan(a: Tensor, b: Tensor, initial_state: Tensor | None = None, is_first: Tensor | None = None) -> Tensor:
    """See `wmkit_kernels.diagonal_scan`; differentiable by autograd."""
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


def vandermonde(v: Tensor, log_x: Tensor, length: int) -> Tensor:
    """See `wmkit_kernels.vandermonde`; differentiable by autograd."""
    steps = torch.arange(length, device=v.device, dtype=log_x.real.dtype)
    powers = torch.exp(log_x.unsqueeze(-1) * steps)
    return 2 * (v.unsqueeze(-1) * powers).real.sum(-2)


def fft_conv(k: Tensor, u: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """See `wmkit_kernels.fft_conv`; works in `dtype`: single precision shows what rounding alone costs."""
    steps = torch.arange(u.shape[1], device=u.device)
    lag = steps[:, None] - steps
    toeplitz = k.to(dtype)[:, lag.clamp(min=0)] * (lag >= 0)
    return torch.einsum("hts,bsh->bth", toeplitz, u.to(dtype))


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
