"""The Krylov series r Abar^l x of a few rows r and columns x: all that the DPLR ops need of the powers of Abar."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit_kernels.common.geometric_sums import geometric_sums
from wmkit_kernels.common.power_series import divide, multiply, shift
from wmkit_kernels.dplr.system import Discrete


def krylov_series(discrete: Discrete, rows: Tensor, starts: Tensor, length: int) -> Tensor:
    """2 Re(r Abar^l x) for l < length: rows r (H, K, N), starts x (H, Y, N) -> (H, K, Y, length).

    The first row must be `discrete.q`. With Abar = diag(a) - g q and alpha_l = q Abar^l x, unrolling the recurrence
    gives equations between power series in z,

        alpha = f - z m alpha,        r Abar^l x = e - z n alpha,

    where e, f, n, m are the geometric sums of r a^l x, q a^l x, r a^l g, q a^l g. Hence alpha = f / (1 + z m): one
    quotient for all columns, one product for each further row.
    """
    sums = geometric_sums(rows, torch.cat([starts, discrete.g.unsqueeze(1)], dim=1), discrete.a, length)
    m, n = sums[:, :1, -1:], sums[:, 1:, -1:]
    unit = torch.nn.functional.pad(torch.ones_like(m[..., :1]), (0, length - 1))
    alpha = divide(sums[:, :1, :-1], unit + shift(m))
    return torch.cat([alpha, sums[:, 1:, :-1] - shift(multiply(n, alpha))], dim=1)
