"""How far two results are apart, where, and how far they may be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wmkit import tree
from wmkit.tree import State

FLOOR = {torch.float32: 5e-5, torch.float64: 1e-10}
"""Relative error that any reordering of sums may cost."""
STATE_FLOOR = {torch.float32: 1e-4, torch.float64: 1e-8}
"""The same for last states, which parallel paths gather by another road than the outputs."""

COARSE = ((1e-4, (3e-2, 3e-2, 3e-2)), (1e-9, (1e-4, 2e-4, 1e-3)))
"""What is allowed, of features, last states and gradients, where something computes in numbers of a coarser `eps` than
the module's: bfloat16 or float16 inside, float32 inside of a module in float64."""

LARGEST_ERROR = 1e-3
"""Relative error of a path in its own precision beyond which it is no longer put down to rounding; ten times as much
of gradients, which pass every step twice."""

HUGE = 1e30
"""Larger numbers stand for infinity (the start of a running maximum, an additive mask): no scale of anything else."""


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """Allowed differences, as fractions of the compared tensor's largest entry."""

    features: float
    state: float
    gradients: float

    @classmethod
    def floor(cls, dtype: torch.dtype) -> Tolerance:
        """What is allowed when the paths themselves have no error."""
        return cls(FLOOR[dtype], STATE_FLOOR[dtype], FLOOR[dtype])

    @classmethod
    def inside(cls, dtype: torch.dtype, coarsest: torch.dtype) -> Tolerance:
        """The floor of a module in `dtype` that computes in `coarsest` somewhere inside."""
        eps = torch.finfo(coarsest).eps
        if eps <= torch.finfo(dtype).eps:
            return cls.floor(dtype)
        return next(cls(*allowed) for least, allowed in COARSE if eps > least)

    def widened(self, features: float, state: float, gradients: float) -> Tolerance:
        """Plus twice these errors; no error counts for more than `LARGEST_ERROR`, of gradients ten times that."""
        features, state = (2 * min(error, LARGEST_ERROR) for error in (features, state))
        gradients = 2 * min(gradients, 10 * LARGEST_ERROR)
        return Tolerance(self.features + features, self.state + state, self.gradients + gradients)


def scale_of(tensor: Tensor) -> float:
    """The largest finite entry that does not stand for infinity; 0 where there is none."""
    sizes = tensor.detach().double().abs()
    sizes = sizes[sizes < HUGE]
    return float(sizes.max()) if sizes.numel() else 0.0


def difference(got: Tensor, want: Tensor, scale: float | None = None) -> Tensor:
    """|got - want| / scale, entry by entry; `scale` is that of `want` unless given.

    Equal entries, infinite ones too, do not differ; entries of which one is not finite do, infinitely. Entries beyond
    `HUGE` are measured by their own size.
    """
    got, want = got.detach().double(), want.detach().double()
    size = torch.full_like(want, max(scale_of(want) if scale is None else scale, 1e-30))
    size = torch.where(want.abs() < HUGE, size, want.abs())
    error = torch.where(got == want, 0.0, (got - want).abs() / size)
    return torch.where(torch.isfinite(error), error, math.inf)


def largest(got: Tensor, want: Tensor, scale: float | None = None) -> float:
    """The largest entry of `difference`."""
    return float(difference(got, want, scale).max()) if want.numel() else 0.0


def disagreement(what: str, got: Tensor, want: Tensor, allowed: float, scale: float | None = None) -> Iterator[str]:
    """Yield one sentence when `got` is not `want`: what differs, where, by how much."""
    if got.shape != want.shape:
        yield f"{what}: shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    elif not want.is_floating_point():
        wrong = (got != want).nonzero()
        if len(wrong):
            place = tuple(wrong[0].tolist())
            yield f"{what}: {got[place].item()} at {place}, expected {want[place].item()}"
    elif want.numel() and largest(got, want, scale) > allowed:
        error = difference(got, want, scale)
        place = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
        yield f"{what}: off by {float(error.max()):.1e} of its scale at {place}, allowed {allowed:.1e}"


def named_leaves(state: State) -> dict[str, Tensor]:
    """The tensors of a state by path, such as `state['conv'][0]`."""
    return {f"state{pytree.keystr(path)}": leaf for path, leaf in pytree.tree_flatten_with_path(state)[0]}


def states_disagree(what: str, got: State, want: State, allowed: float) -> Iterator[str]:
    """`disagreement` over the leaves of two states."""
    ours, theirs = named_leaves(got), named_leaves(want)
    if ours.keys() != theirs.keys():
        yield f"{what}: tensors {', '.join(ours) or 'none'}, expected {', '.join(theirs) or 'none'}"
        return
    for path, leaf in theirs.items():
        yield from disagreement(f"{what}, {path}", ours[path], leaf, allowed)


def state_error(got: State, want: State) -> float:
    """The largest `difference` between two states of one structure."""
    pairs = zip(tree.leaves(got), tree.leaves(want), strict=True)
    return max((largest(a, b) for a, b in pairs if b.is_floating_point()), default=0.0)
