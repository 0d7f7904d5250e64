"""The diagonal-plus-low-rank system, discretised: what the DPLR ops share.

Continuous: x' = A x + B u, y = 2 Re(C x), A = diag(Lambda) - P P^*, over the full state closed under conjugation, of
which one of each pair is kept; so an inner product over the full state is 2 Re over the kept half.

Discrete (bilinear, step dt): Abar = (1 - dt A / 2)^{-1} (1 + dt A / 2), Bbar = (1 - dt A / 2)^{-1} dt B. By Woodbury

    E = 1 / (2 - dt Lambda),  q = dt E P^*,  r = 1 + 2 Re sum |P|^2 dt E,  a = 4 E - 1,  g = 4 E P / r
    Abar x = a x - g (2 Re sum q x),      Bbar = 2 dt E (B - P (2 Re sum q B) / r)

which is Gu et al. 2022 (arXiv:2111.00396), appendix C, arranged so that a step needs one reduction and nothing divides
by dt. Everything here is complex128: the rank-one part cancels three to four digits of the diagonal part for HiPPO
matrices, which float32 cannot spare.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit_kernels.common.series import inner


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The transition Abar of every channel as diag(a) - g (2 Re q . ): fields (H, N) complex128."""

    a: Tensor
    g: Tensor
    q: Tensor

    def transposed(self) -> Discrete:
        """Abar acting on rows: x Abar."""
        return Discrete(a=self.a, g=self.q, q=self.g)

    def advance(self, state: Tensor) -> Tensor:
        """Abar x: (..., H, N) -> (..., H, N)."""
        return self.a * state - self.g * inner(self.q, state)


def discretise(Lambda: Tensor, P: Tensor, dt: Tensor) -> Discrete:
    """Abar, bilinear with step dt: (N,), (N,), (H,) -> fields (H, N)."""
    E, dt, r = _resolvent(Lambda, P, dt)
    return Discrete(a=4 * E - 1, g=4 * E * (P.to(E.dtype) / r), q=dt * E * P.conj())


def discretise_input(Lambda: Tensor, P: Tensor, B: Tensor, dt: Tensor) -> Tensor:
    """Bbar: (N,), (N,), (..., N), (H,) -> (..., H, N) complex128."""
    E, dt, r = _resolvent(Lambda, P, dt)
    B = B.to(E.dtype).unsqueeze(-2)  # (..., 1, N)
    return 2 * dt * E * (B - P * (inner(dt * E * P.conj(), B) / r))


def _resolvent(Lambda: Tensor, P: Tensor, dt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E (H, N), dt (H, 1) and r (H, 1) of the equations above, in double precision."""
    Lambda, P, dt = Lambda.to(torch.complex128), P.to(torch.complex128), dt.to(torch.float64).unsqueeze(-1)
    E = 1 / (2 - dt * Lambda)
    return E, dt, 1 + 2 * (P.abs().square() * (dt * E).real).sum(-1, keepdim=True)


def check(Lambda: Tensor, P: Tensor, dt: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None) -> None:
    """Raise `ValueError` unless Lambda, P (N,), B (..., N), C (H, N) are complex and dt, D (H,) are real."""
    if Lambda.ndim != 1 or P.shape != Lambda.shape:
        raise ValueError(f"expected Lambda and P of one shape (N,), got {tuple(Lambda.shape)} and {tuple(P.shape)}")
    if dt.ndim != 1 or dt.is_complex():
        raise ValueError(f"expected dt (H,) real, got shape {tuple(dt.shape)} of {dt.dtype}")
    for name, value in {"Lambda": Lambda, "P": P, "B": B, "C": C}.items():
        if not value.is_complex():
            raise ValueError(f"expected {name} to be complex (torch.view_as_complex), got {value.dtype}")
        if value.shape[-1] != Lambda.shape[0]:
            raise ValueError(f"expected {name} with last axis N = {Lambda.shape[0]}, got {tuple(value.shape)}")
    if C.ndim != 2 or C.shape[0] != dt.shape[0]:
        raise ValueError(f"expected C (H, N) with H = {dt.shape[0]} as in dt, got {tuple(C.shape)}")
    if D is not None and (D.shape != dt.shape or D.is_complex()):
        raise ValueError(f"expected D (H,) = {tuple(dt.shape)} real, got {tuple(D.shape)} of {D.dtype}")
