"""The convolution kernel of a DPLR state space model and its response to an initial state."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit_kernels.dplr import Discrete, check, discretise, discretise_input
from wmkit_kernels.geometric_sums import geometric_sums
from wmkit_kernels.power_series import divide, multiply, shift


def dplr_kernel(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int) -> Tensor:
    """k[..., h, l] = 2 Re(C_h Abar_h^l Bbar_h) for l < length, A = diag(Lambda) - P P^*, bilinear Abar and Bbar.

    `Lambda`, `P` (N,), `B` (..., N), `C` (H, N) complex, one of each conjugate pair; `dt` (H,) real and positive, with
    Re Lambda < 0. Returns (..., H, length) real, in the precision of `C`; differentiable in the five tensors.
    `B` is shared by the channels; its leading axes give a batch of kernels. For states that differ by channel see
    `dplr_response`. Computed in double precision whatever comes in, without any (H, N, length) tensor.
    Raises `ValueError` for shapes or dtypes other than these.
    """
    check(Lambda, P, dt, B=B, C=C)
    _check_sizes(C, dt, length)
    inputs = discretise_input(Lambda, P, B, dt)
    return _powers_on(discretise(Lambda, P, dt), C, inputs, length)


def dplr_response(Lambda: Tensor, P: Tensor, state: Tensor, C: Tensor, dt: Tensor, length: int) -> Tensor:
    """y[..., h, l] = 2 Re(C_h Abar_h^{l+1} s_h): the free response to the state before the first step.

    `state` (..., H, N) complex, one state per channel; the rest, the result and the errors as in `dplr_kernel`.
    """
    check(Lambda, P, dt, state=state, C=C)
    _check_sizes(C, dt, length)
    if state.shape[-2:] != C.shape:
        raise ValueError(f"expected state (..., H, N) = (..., {C.shape[0]}, {C.shape[1]}), got {tuple(state.shape)}")
    discrete = discretise(Lambda, P, dt)
    return _powers_on(discrete, C, discrete.advance(state.to(torch.complex128)), length)


def _powers_on(discrete: Discrete, C: Tensor, start: Tensor, length: int) -> Tensor:
    """2 Re(C Abar^l x) for x = start (..., H, N) -> (..., H, length).

    With Abar = diag(a) - g q^T and alpha_l = q^T Abar^l x, unrolling gives two equations between power series in z:
    alpha = f - z m alpha and y = e - z n alpha, where e, f, n, m are geometric sums with c a^l x, q a^l x, c a^l g,
    q a^l g. So alpha = f / (1 + z m).
    """
    columns = start.reshape(-1, *C.shape).transpose(0, 1)
    left = torch.stack([C.to(torch.complex128), discrete.row], dim=1)
    right = torch.cat([columns, discrete.gain.unsqueeze(1)], dim=1)
    sums = geometric_sums(left, right, discrete.ratio, length)
    (e, f), (n, m) = sums[:, :, :-1].unbind(1), sums[:, :, -1:].unbind(1)
    unit = torch.nn.functional.pad(torch.ones_like(m[..., :1]), (0, length - 1))
    response = e - shift(multiply(n, divide(f, unit + shift(m))))
    return response.transpose(0, 1).reshape(*start.shape[:-1], length).to(C.real.dtype)


def _check_sizes(C: Tensor, dt: Tensor, length: int) -> None:
    if C.ndim != 2 or C.shape[0] != dt.shape[0]:
        raise ValueError(f"expected C (H, N) with H = {dt.shape[0]} as in dt, got {tuple(C.shape)}")
    if length < 1:
        raise ValueError(f"expected length >= 1, got {length}")
