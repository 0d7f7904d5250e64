"""How far two results are apart, where, and how far they may be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

FLOOR = {torch.float32: 5e-5, torch.float64: 1e-10}
"""Relative error that any reordering of sums may cost."""
STATE_FLOOR = {torch.float32: 1e-4, torch.float64: 1e-8}
"""The same for last states, which parallel paths gather by another road than the outputs."""

LARGEST_ERROR = 1e-3
"""Relative error of `step` in float32 beyond which it is no longer put down to rounding."""


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """Allowed differences, as fractions of the compared tensor's largest entry."""

    features: float
    state: float
    gradients: float

    @classmethod
    def floor(cls, dtype: torch.dtype) -> Tolerance:
        """What is allowed when the step itself has no error."""
        return cls(FLOOR[dtype], STATE_FLOOR[dtype], FLOOR[dtype])

    def widened(self, measure: Callable[[], tuple[float, float, float]]) -> Tolerance:
        """The tolerance plus twice the errors that `measure` finds: of features, last state and gradients.

        Unchanged where the measurement crashes (code that only knows float32). No error counts for more than
        `LARGEST_ERROR`: beyond it the two runs differ by more than their precision.
        """
        try:
            features, state, gradients = (2 * min(error, LARGEST_ERROR) for error in measure())
        except Exception:  # a user's code may raise anything, and float64 is a yardstick here, not a law
            return self
        return Tolerance(self.features + features, self.state + state, self.gradients + gradients)


def difference(got: Tensor, want: Tensor, scale: float | None = None) -> Tensor:
    """|got - want| / scale, entry by entry; `scale` is the largest |want| unless given. Non-finite entries are inf."""
    got, want = got.detach().double(), want.detach().double()
    scale = float(want.abs().max()) if scale is None else scale
    error = (got - want).abs() / max(scale, 1e-30)
    return torch.where(torch.isfinite(error), error, math.inf)


def largest(got: Tensor, want: Tensor, scale: float | None = None) -> float:
    """The largest entry of `difference`."""
    return float(difference(got, want, scale).max()) if want.numel() else 0.0


def disagreement(what: str, got: Tensor, want: Tensor, allowed: float, scale: float | None = None) -> Iterator[str]:
    """Yield one sentence when `got` is not `want`: what differs, where, by how much."""
    if got.shape != want.shape:
        yield f"{what}: shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    elif not want.is_floating_point() and not torch.equal(got, want):
        yield f"{what}: {got.tolist()}, expected {want.tolist()}"
    elif want.is_floating_point() and want.numel() and largest(got, want, scale) > allowed:
        error = difference(got, want, scale)
        place = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
        yield f"{what}: off by {float(error.max()):.1e} of its scale at {place}, allowed {allowed:.1e}"


def disagreements(what: str, got: list[Tensor], want: list[Tensor], allowed: float) -> Iterator[str]:
    """`disagreement` over the leaves of two states."""
    if len(got) != len(want):
        yield f"{what}: {len(got)} tensors, expected {len(want)}"
        return
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        yield from disagreement(f"{what}, leaf {i}", a, b, allowed)
