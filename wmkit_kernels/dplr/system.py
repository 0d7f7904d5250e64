"""The diagonal-plus-low-rank system, discretised: what the DPLR ops share.

Continuous: x' = A x + B u, y = 2 Re(C x), A = diag(Lambda) - P P^*, over the full state closed under conjugation, of
which one of each pair is kept; so an inner product over the full state is 2 Re over the kept half.

Discrete (bilinear, step dt): Abar = (1 - dt A / 2)^{-1} (1 + dt A / 2), Bbar = (1 - dt A / 2)^{-1} dt B. By Woodbury

    E = 1 / (2 - dt Lambda),  q = dt E P^*,  r = 1 + 2 Re sum |P|^2 dt E,  g = 4 E P / r
    Abar x = (4 E - 1) x - g (2 Re sum q x),      Bbar = 2 dt E (B - P (2 Re sum q B) / r)

which is Gu et al. 2022 (arXiv:2111.00396), appendix C, arranged so that a step needs one reduction and nothing divides
by dt. Everything here is complex128: the rank-one part cancels three to four digits of the diagonal part for HiPPO
matrices, which float32 cannot spare.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Discrete:
    """Abar of every channel as diag(ratio) - gain (2 Re row . ): fields (H, N) complex128."""

    ratio: Tensor
    gain: Tensor
    row: Tensor

    def advance(self, state: Tensor) -> Tensor:
        """Abar x: (..., H, N) -> (..., H, N)."""
        return self.ratio * state - self.gain * inner(self.row, state)

    def transposed(self) -> Discrete:
        """Abar acting on rows: x Abar."""
        return Discrete(ratio=self.ratio, gain=self.row, row=self.gain)


def discretise(Lambda: Tensor, P: Tensor, dt: Tensor) -> Discrete:
    """Bilinear discretisation of A = diag(Lambda) - P P^* with step dt: (N,), (N,), (H,) -> fields (H, N)."""
    weight, dt, reach = _resolvent(Lambda, P, dt)
    return Discrete(ratio=4 * weight - 1, gain=4 * weight * (P.to(weight.dtype) / reach), row=dt * weight * P.conj())


def discretise_input(Lambda: Tensor, P: Tensor, B: Tensor, dt: Tensor) -> Tensor:
    """Bbar: (N,), (N,), (..., N), (H,) -> (..., H, N) complex128."""
    weight, dt, reach = _resolvent(Lambda, P, dt)
    B = B.to(weight.dtype).unsqueeze(-2)
    return 2 * dt * weight * (B - P * (inner(dt * weight * P.conj(), B) / reach))


def inner(x: Tensor, y: Tensor) -> Tensor:
    """2 Re sum_n x_n y_n, the axis kept."""
    return 2 * (x * y).real.sum(-1, keepdim=True)


def _resolvent(Lambda: Tensor, P: Tensor, dt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E (H, N), dt (H, 1) and r (H, 1) of the equations above, in double precision."""
    Lambda, P, dt = Lambda.to(torch.complex128), P.to(torch.complex128), dt.to(torch.float64).unsqueeze(-1)
    weight = 1 / (2 - dt * Lambda)
    reach = 1 + 2 * (P.abs().square() * (dt * weight).real).sum(-1, keepdim=True)
    return weight, dt, reach


def check(Lambda: Tensor, P: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> None:
    """Raise `ValueError` unless Lambda, P (N,), B (..., N), C (H, N) are complex and dt (H,) is real."""
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


def check_skip(D: Tensor, dt: Tensor) -> None:
    """Raise `ValueError` unless D is (H,) real, as dt is."""
    if D.shape != dt.shape or D.is_complex():
        raise ValueError(f"expected D (H,) = {tuple(dt.shape)} real, got {tuple(D.shape)} of {D.dtype}")


def check_sequence(pairs: int, channels: int, u: Tensor, state: Tensor | None) -> None:
    """Raise `ValueError` unless u is (B, T, H) real with T >= 1 and the state None or (B, H, N, 2) real."""
    if u.ndim != 3 or u.shape[1] < 1 or u.shape[2] != channels or not u.is_floating_point():
        raise ValueError(f"expected u (B, T >= 1, H = {channels}) real, got {tuple(u.shape)} of {u.dtype}")
    expected = (u.shape[0], channels, pairs, 2)
    if state is not None and (state.shape != expected or not state.is_floating_point()):
        raise ValueError(f"expected state (B, H, N, 2) = {expected} real, got {tuple(state.shape)} of {state.dtype}")
