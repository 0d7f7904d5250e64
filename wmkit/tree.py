"""Small helpers for states: nested dicts, tuples and lists of tensors, batch first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

State = Any
"""A pytree of real, integer or bool tensors, batch first; opaque to everyone but its owner."""


def map_tree(function: Callable[..., Tensor], tree: State, *others: State) -> State:
    """Apply `function` leaf by leaf to one or several trees of the same structure."""
    return pytree.tree_map(function, tree, *others)


def leaves(tree: State) -> list[Tensor]:
    """The tensors of a tree, in a fixed order."""
    return list(pytree.tree_leaves(tree))


def detach(tree: State) -> State:
    """The tree cut from the autograd graph: what truncated backpropagation carries to the next window."""
    return map_tree(Tensor.detach, tree)


def index(tree: State, rows: Any) -> State:
    """Rows of a state: an int tensor, a slice or a bool mask over the batch axis."""
    return map_tree(lambda leaf: leaf[rows], tree)


def repeat(tree: State, times: int) -> State:
    """Every row `times` times in a row, as for imagining several futures of one past."""
    return map_tree(lambda leaf: leaf.repeat_interleave(times, dim=0), tree)


def where(mask: Tensor, yes: State, no: State) -> State:
    """Row-wise choice: `mask` (B,) bool picks `yes`, else `no`; leaves keep `no`'s dtype."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(mask.reshape(-1, *[1] * (b.ndim - 1)), a.to(b.dtype), b)

    return map_tree(pick, yes, no)
