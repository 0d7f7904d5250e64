"""Sums of geometric sequences over conjugate pairs, by two levels: what every state space kernel is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WORKSPACE = 1 << 16
"""Elements of one table (1 MiB) on the CPU: channels go through in blocks, so that tables stay in the cache."""


def geometric_sums(left: Tensor, right: Tensor, ratio: Tensor, length: int) -> Tensor:
    """out[h, x, y, l] = 2 Re sum_n left[h, x, n] right[h, y, n] ratio[h, n]^l.

    `left` (H, X, N), `right` (H, Y, N), `ratio` (H, N) complex -> (H, X, Y, length) real.
    With l = J i + j the sum is a product of two real matrices per channel, (left ratio^{J i}) and (right ratio^j):
    about 2 sqrt(length X Y) powers instead of length, and nothing of size H x N x length.
    """
    return _geometric_sums(left, right, ratio, length)


def powers(ratio: Tensor, count: int) -> Tensor:
    """ratio^0 .. ratio^{count-1} on a new axis before the last: (..., N) -> (..., count, N), by doubling."""
    table = torch.stack([torch.ones_like(ratio), ratio], dim=-2)
    while table.shape[-2] < count:
        table = torch.cat([table, table * (table[..., -1:, :] * ratio.unsqueeze(-2))], dim=-2)
    return table[..., :count, :]


class _GeometricSums(torch.autograd.Function):
    """Saves its inputs only and builds the tables again in the backward pass, block by block."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, ratio: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(left, right, ratio)
        ctx.length = length
        return torch.cat([_sums(length, *block) for block in _blocks(length, left, right, ratio)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        left, right, ratio = ctx.saved_tensors
        blocks = [_sums_adjoint(ctx.length, *block) for block in _blocks(ctx.length, left, right, ratio, grad)]
        of_left, of_right, of_ratio = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        return of_left, of_right, of_ratio, None


_geometric_sums: Callable[..., Tensor] = _GeometricSums.apply


def _sums(length: int, left: Tensor, right: Tensor, ratio: Tensor) -> Tensor:
    channels, x, y = left.shape[0], left.shape[1], right.shape[1]
    rows, columns = _split(length, x, y)
    left_table, right_table, _, _ = _tables(left, right, ratio, rows, columns)
    product = _real(left_table) @ _real(right_table).mT
    product = product.view(channels, x, rows, y, columns).transpose(2, 3)
    return product.reshape(channels, x, y, rows * columns)[..., :length]


def _sums_adjoint(
    length: int, left: Tensor, right: Tensor, ratio: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    channels, x, y = left.shape[0], left.shape[1], right.shape[1]
    rows, columns = _split(length, x, y)
    left_table, right_table, left_powers, right_powers = _tables(left, right, ratio, rows, columns)
    grad = torch.nn.functional.pad(grad, (0, rows * columns - length)).view(channels, x, y, rows, columns)
    grad = grad.transpose(2, 3).reshape(channels, x * rows, y * columns)
    grad_left_table = _complex(grad @ _real(right_table)).view_as(left_table)
    grad_right_table = _complex(grad.mT @ _real(left_table)).view_as(right_table)
    grad_left, grad_base = _table_adjoint(grad_left_table, 2 * left.conj(), left_powers)
    grad_right, grad_ratio = _table_adjoint(grad_right_table, right, right_powers)
    grad_ratio = grad_ratio + grad_base.conj() * (columns * right_powers[:, -1]).conj()
    return 2 * grad_left.conj(), grad_right, grad_ratio


def _tables(
    left: Tensor, right: Tensor, ratio: Tensor, rows: int, columns: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """2 conj(left ratio^{J i}) (H, X, I, N) and right ratio^j (H, Y, J, N), with the powers in each.

    The conjugate makes 2 Re(a b) the plain dot product of (Re, Im) pairs.
    """
    right_powers = powers(ratio, columns)
    left_powers = powers((right_powers[:, -1] * ratio).conj(), rows)
    left_table = (2 * left.conj()).unsqueeze(2) * left_powers.unsqueeze(1)
    right_table = right.unsqueeze(2) * right_powers.unsqueeze(1)
    return left_table, right_table, left_powers, right_powers


def _table_adjoint(grad: Tensor, factor: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of factor[h, y, n] base[h, n]^j, with table = base^j, in `factor` and `base`."""
    grad_factor = (grad * table.conj().unsqueeze(1)).sum(2)
    grad_powers = (grad * factor.conj().unsqueeze(2)).sum(1)
    exponents = torch.arange(1, table.shape[1], device=table.device, dtype=table.real.dtype)
    grad_base = (grad_powers[:, 1:] * (exponents[:, None] * table[:, :-1]).conj()).sum(1)
    return grad_factor, grad_base


def _split(length: int, x: int, y: int) -> tuple[int, int]:
    """(I, J) with I J >= length and both tables, X I and Y J rows, of about the same size."""
    columns = min(length, max(1, round(math.sqrt(length * x / y))))
    return -(-length // columns), columns


def _blocks(length: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors cut into blocks of channels whose tables fit the workspace; one block where memory is not cached."""
    left, right = tensors[0], tensors[1]
    rows, columns = _split(length, left.shape[1], right.shape[1])
    per_channel = max(left.shape[1] * rows, right.shape[1] * columns) * left.shape[2]
    size = max(1, WORKSPACE // per_channel) if left.device.type == "cpu" else left.shape[0]
    return list(zip(*(torch.split(tensor, size) for tensor in tensors), strict=True))


def _real(table: Tensor) -> Tensor:
    """(H, X, I, N) complex -> (H, X I, 2N) real."""
    return torch.view_as_real(table.resolve_conj()).flatten(-2).flatten(1, 2)


def _complex(x: Tensor) -> Tensor:
    """(..., 2N) real -> (..., N) complex."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
