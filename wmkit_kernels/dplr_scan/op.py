"""The DPLR recurrence over time, with resets."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit_kernels.common.dispatch import use_triton, why_not_here, why_not_pairs
from wmkit_kernels.common.pairs import check_sequence
from wmkit_kernels.dplr.system import check, discretise, discretise_input
from wmkit_kernels.dplr_scan.recurrence import in_chunks, recurrence, table_of


def dplr_scan(
    Lambda: Tensor,
    P: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    is_first: Tensor | None = None,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """s_t = Abar s_{t-1} + Bbar u_t, y_t = 2 Re(C s_t), with s_{t-1} := 0 where is_first_t; returns (y, s_{T-1}).

    `u` (B, T, H), `state` = s_{-1} (B, H, N, 2) or None for zeros, `is_first` (B, T) bool or None for no reset ->
    y (B, T, H), last state (B, H, N, 2), in the precision of `u`, at least float32, under autocast too. The system as
    in `dplr_kernel`: `Lambda`, `P`, `B` (N,), `C` (H, N) complex, `dt` (H,) real. Differentiable in all but the mask,
    whose values are never read on the host. `backend`: "auto" (Triton on a GPU where it can run), "torch", "triton".
    Raises `ValueError` for shapes or dtypes other than these, and where Triton is asked for and cannot run.
    """
    check(Lambda, P, dt, B, C)
    check_sequence(Lambda.shape[0], dt.shape[0], u, state, is_first)
    triton = use_triton(backend, why_not_triton(u, state, is_first, Lambda.shape[0]))
    with torch.autocast(u.device.type, enabled=False):
        u = u.to(torch.promote_types(u.dtype, torch.float32))
        if not triton and not torch.compiler.is_compiling():
            discrete, Bbar = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
            return in_chunks(discrete, Bbar, C, u, state, is_first)
        table = table_of(Lambda, P, B, C, dt)
        return recurrence(table.float() if triton else table, u, state, is_first, triton)


def why_not_triton(u: Tensor, state: Tensor | None, is_first: Tensor | None, pairs: int) -> str | None:
    """Why Triton cannot run a recurrence of `pairs` conjugate pairs on these tensors, or None."""
    return why_not_here(u, state, is_first) or why_not_pairs(pairs)
