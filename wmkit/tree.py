"""Small helpers for states: nested dicts, tuples and lists of tensors, batch first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wmkit.checks import check_integer

State = Any
"""A pytree of real, integer or bool tensors, batch first; opaque to everyone but its owner."""


def map_tree(function: Callable[..., Tensor], tree: State, *others: State) -> State:
    """Apply `function` leaf by leaf to one or several trees of the same structure."""
    return pytree.tree_map(function, tree, *others)


def leaves(tree: State) -> list[Tensor]:
    """The tensors of a tree, in a fixed order."""
    return list(pytree.tree_leaves(tree))


def check_like(state: State, like: State, rows: int) -> None:
    """Raise `ValueError`, naming the leaf, unless `state` is what a model whose `initial_state(1)` is `like` hands out.

    That is of the same structure, shapes but for the number of rows, devices and types. Under autocast leaves of
    floating point may be of another type: a cache that only stores values may be rounded there.
    """
    leaves, structure = pytree.tree_flatten(state)
    wanted, wanted_structure = pytree.tree_flatten(like)
    if structure == wanted_structure and all(_differs(a, b, rows) is None for a, b in zip(leaves, wanted, strict=True)):
        return
    found, expected = _by_path(state), _by_path(like)  # a tuple in the place of a list is as good
    for path in [*expected, *found]:
        if (path in found) != (path in expected):
            how = "has" if path in found else "lacks"
            raise ValueError(f"state: not one of this model, it {how} state{path}; give what its observe returned")
    for path, leaf in expected.items():
        why = _differs(found[path], leaf, rows)
        if why is not None:
            raise ValueError(f"state{path}: {why}")


def _differs(leaf: Any, like: Tensor, rows: int) -> str | None:
    """Why a leaf cannot be one of `rows` rows where an initial state of one row has `like`, or None."""
    if not isinstance(leaf, Tensor):
        return f"expected a tensor, got a {type(leaf).__name__}"
    if leaf.shape[1:] != like.shape[1:] or leaf.ndim != like.ndim:
        return f"expected (B, ...) = {(rows, *like.shape[1:])}, got {tuple(leaf.shape)}: the state of another model"
    if leaf.shape[0] != rows:
        return other_rows(leaf.shape[0], rows)
    if leaf.device != like.device:
        return f"it is on {leaf.device}, the model on {like.device}; move one of the two"
    if leaf.dtype != like.dtype:
        both = leaf.is_floating_point() and like.is_floating_point()
        if not (both and torch.is_autocast_enabled(leaf.device.type)):
            return f"expected {like.dtype} as in initial_state, got {leaf.dtype}; convert the state with the model"
    return None


def other_rows(has: int, rows: int) -> str:
    """What is wrong with a state of `has` rows where the inputs have `rows`, and the call that makes it fit."""
    counted = ["1 row" if number == 1 else f"{number} rows" for number in (has, rows)]
    how = f"tree.index(state, rows) of wmkit chooses {'them' if rows > 1 else 'it'}"
    if 0 < has < rows and rows % has == 0:
        how = f"tree.repeat(state, {rows // has}) of wmkit gives each row {rows // has} times"
    return f"of {counted[0]}, the inputs have {counted[1]}; {how}"


def _by_path(tree: State) -> dict[str, Any]:
    """Leaves by their paths, `"['keys'][0]"`."""
    return {pytree.keystr(path): leaf for path, leaf in pytree.tree_flatten_with_path(tree)[0]}


def detach(tree: State) -> State:
    """The tree cut from the autograd graph: what truncated backpropagation carries to the next window."""
    return map_tree(Tensor.detach, tree)


def index(tree: State, rows: Any) -> State:
    """Rows of a state: an int tensor, a slice or a bool mask over the batch axis.

    Raises `ValueError` for a single number, which would take the batch axis away.
    """
    if isinstance(rows, int) or (isinstance(rows, Tensor) and rows.ndim == 0):
        row = int(rows)
        raise ValueError(f"rows: expected a slice, a tensor or a list, got {row}; one row is slice({row}, {row + 1})")
    return map_tree(lambda leaf: leaf[rows], tree)


def flatten(tree: State) -> State:
    """States of several steps, leaves (B, K, ...), as B K rows: those of row 0 first. Features go along by
    `features.flatten(0, 1)`.
    """
    return map_tree(lambda leaf: leaf.flatten(0, 1), tree)


def repeat(tree: State, times: int) -> State:
    """Every row `times` times in a row, as for imagining several futures of one past; `ValueError` below 1."""
    check_integer("times", times, 1)
    return map_tree(lambda leaf: leaf.repeat_interleave(times, dim=0), tree)


def where(mask: Tensor, yes: State, no: State) -> State:
    """Row-wise choice: `mask` (B,) bool picks `yes`, else `no`, of B rows; leaves keep `no`'s dtype.

    Raises `ValueError` for a mask of other rows, which would be broadcast.
    """

    def pick(a: Tensor, b: Tensor) -> Tensor:
        if mask.shape != b.shape[:1]:
            raise ValueError(f"mask: expected (B,) = {tuple(b.shape[:1])} as in the state, got {tuple(mask.shape)}")
        return torch.where(mask.reshape(-1, *[1] * (b.ndim - 1)), a.to(b.dtype), b)

    return map_tree(pick, yes, no)


def compact(tree: State) -> State:
    """The tree with every leaf in storage of its own size: a view would keep all that it is a view of in memory.

    A leaf that fills its storage is left as it is. In a compiled graph there is no storage to look at, so that every
    leaf is copied, which the compiler does where the leaf is made.
    """

    def own(leaf: Tensor) -> Tensor:
        filled = not torch.compiler.is_compiling() and leaf.untyped_storage().nbytes() <= leaf.nbytes
        return leaf if filled else leaf.clone()

    return map_tree(own, tree)
