"""HiPPO-LegS, the matrix that makes a state remember its whole past, in diagonal-plus-low-rank form."""

from __future__ import annotations

import torch
from torch import Tensor


def legs_matrix(size: int) -> tuple[Tensor, Tensor]:
    """HiPPO-LegS: A (N, N) and B (N,) in float64.

    A_nk = -sqrt((2n+1)(2k+1)) for n > k, -(n+1) for n = k, 0 above;  B_n = sqrt(2n+1).
    Source: Gu et al., HiPPO, 2020 (arXiv:2008.07669), theorem 2, time-invariant.
    """
    n = torch.arange(size, dtype=torch.float64)
    B = torch.sqrt(2 * n + 1)
    A = -torch.tril(B[:, None] * B, diagonal=-1) - torch.diag(n + 1)
    return A, B


def legs_normal(size: int) -> tuple[Tensor, Tensor]:
    """The normal part A + P P^T = V diag(Lambda) V^* of LegS: (Lambda (size / 2,), V^* (size / 2, size)) complex128.

    With P_n = sqrt(n + 1/2), A + P P^T = -1/2 + a skew matrix, whose eigenvectors V are unitary; eigenvalues come in
    conjugate pairs, of which the half with negative imaginary part is kept. `size` is even.
    """
    if size < 2 or size % 2:
        raise ValueError(f"the state size of HiPPO-LegS in conjugate pairs must be even and >= 2, got {size}")
    A, _ = legs_matrix(size)
    P = _low_rank(size)
    skew = A + P[:, None] * P + 0.5 * torch.eye(size, dtype=torch.float64)
    frequency, V = torch.linalg.eigh(-1j * skew)
    half = frequency < 0
    Lambda = torch.complex(torch.full_like(frequency[half], -0.5), frequency[half])
    return Lambda, V[:, half].mH


def legs_dplr(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """LegS as A = V (diag(Lambda) - P P^*) V^*: (Lambda, P, V^* B), each (size / 2,) complex128; `size` is even.

    The released S4 code clamps Im(V^* B) to [-2, 2] afterwards, which alters 11 of 32 entries at size 64 (the largest
    is 40.8) and leaves a system that is no longer HiPPO. We keep B as derived: nothing here needs the clamp.
    Source: Gu et al., S4, 2022 (arXiv:2111.00396), appendix A.
    """
    Lambda, basis = legs_normal(size)
    _, B = legs_matrix(size)
    return Lambda, basis @ _low_rank(size).to(basis.dtype), basis @ B.to(basis.dtype)


def _low_rank(size: int) -> Tensor:
    """P_n = sqrt(n + 1/2)."""
    return torch.sqrt(torch.arange(size, dtype=torch.float64) + 0.5)
