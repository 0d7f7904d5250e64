"""What a law is tried on: a copy of the backbone, inputs, an incoming state and what rounding may cost."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.backbones.base import Backbone
from wmkit.testing.tolerance import Tolerance, largest
from wmkit.tree import State

Module = TypeVar("Module", bound=nn.Module)
Run = Callable[[Backbone, Tensor, State | None], tuple[Tensor, State]]
"""(backbone, x, state) -> (features, last state)."""


def scan(backbone: Backbone, x: Tensor, state: State | None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
    """The backbone's own `scan`."""
    features, last = backbone.scan(x, state, is_first)
    return features, last


def loop(backbone: Backbone, x: Tensor, state: State | None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
    """What `scan` must equal: `step` after `step`, the initial state put in wherever `is_first` says so."""
    return Backbone.scan(backbone, x, state, is_first)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Features, last state and the gradients of one random functional of both."""

    features: Tensor
    state: list[Tensor]
    gradients: dict[str, Tensor]


class Trial:
    """One copy of a backbone in eval() with random inputs (B, T, input_dim) of unit scale.

    `jitter` moves every parameter, so that nothing hides behind a weight that starts at zero.
    """

    def __init__(self, backbone: Backbone, length: int, batch_size: int, *, jitter: bool, tolerance: float | None):
        self.backbone = jittered(backbone) if jitter else clone(backbone)
        self.note = " (jittered parameters)" if jitter else ""
        self.length, self.batch_size = length, batch_size
        self.dtype, self.device = placement(backbone)
        self.x, self.other, self.earlier = (self.random(seed, batch_size, length) for seed in range(3))
        self._tolerance = tolerance

    def random(self, seed: int, batch_size: int, length: int) -> Tensor:
        """Standard normal inputs (batch_size, length, input_dim), the same for a seed in any precision."""
        shape = (batch_size, length, self.backbone.input_dim)
        return noise(seed, shape).to(self.device, self.dtype)

    @property
    def carried(self) -> State:
        """An incoming state with a past: what `length` other steps leave behind. A new copy each time."""
        return tree.map_tree(Tensor.clone, self._carried)

    @functools.cached_property
    def _carried(self) -> State:
        with torch.no_grad():
            return loop(self.backbone, self.earlier, None)[1]

    @property
    def states(self) -> list[tuple[str, State | None]]:
        """The two incoming states every law is tried with."""
        return [("from a fresh start", None), ("from a carried state", self.carried)]

    @functools.cached_property
    def resets(self) -> Tensor:
        """(B, T) bool: rows reset at different steps, two of them adjacent; the last row never does."""
        is_first = torch.zeros(self.batch_size, self.length, dtype=torch.bool, device=self.device)
        for row in range(self.batch_size - 1):
            is_first[row, [(2 + 3 * row) % self.length, (3 + 3 * row) % self.length]] = True
        return is_first

    @functools.cached_property
    def tolerance(self) -> Tolerance:
        """Twice the error that float32 costs `step` itself, plus the floor."""
        floor = Tolerance.floor(self.dtype)
        if self._tolerance is not None:
            return Tolerance(self._tolerance, max(self._tolerance, floor.state), self._tolerance)
        return floor if self.dtype == torch.float64 else floor.widened(lambda: _errors(self, self.double()))

    def double(self) -> Trial:
        """The same trial in float64."""
        twin = copy.copy(self)
        for name in ("_carried", "resets", "tolerance"):
            twin.__dict__.pop(name, None)
        twin.backbone, twin.dtype = clone(self.backbone).double(), torch.float64
        twin.x, twin.other, twin.earlier = self.x.double(), self.other.double(), self.earlier.double()
        return twin

    def outcome(self, run: Run, state: State | None) -> Outcome:
        """Run and differentiate with respect to the inputs, the incoming state and every parameter."""
        sources = {"x": _leaf(self.x)}
        state = None if state is None else tree.map_tree(_leaf, state)
        incoming = [] if state is None else tree.leaves(state)
        sources |= {f"incoming state, leaf {i}": leaf for i, leaf in enumerate(incoming) if leaf.requires_grad}
        sources |= {name: p for name, p in self.backbone.named_parameters() if p.requires_grad}
        with torch.enable_grad():
            features, last = run(self.backbone, sources["x"], state)
            total = functional([features, *tree.leaves(last)])
        inputs = list(sources.values())
        gradients = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)
        return Outcome(features.detach(), tree.leaves(tree.detach(last)), dict(zip(sources, gradients, strict=True)))


def functional(tensors: list[Tensor]) -> Tensor:
    """A fixed random weighting of every entry of the floating tensors, summed."""
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    terms = [(noise(100 + i, t.shape).to(t.device, t.dtype) * t).sum() for i, t in enumerate(floating)]
    return torch.stack([term.double() for term in terms]).sum()


def noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers that depend on nothing but `seed` and `shape`."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clone(backbone: Module) -> Module:
    """A copy in eval(), with gradients cleared; the caller's module is left alone."""
    fresh = copy.deepcopy(backbone).eval()
    fresh.zero_grad(set_to_none=True)
    return fresh


def jittered(backbone: Module) -> Module:
    """A copy with every floating parameter moved by a tenth of its size (of 1 where it is zero)."""
    moved = clone(backbone)
    with torch.no_grad():
        for i, parameter in enumerate(moved.parameters()):
            if parameter.is_floating_point():
                size = float(parameter.double().square().mean().sqrt()) if parameter.numel() else 0.0
                parameter.add_((noise(200 + i, parameter.shape) * 0.1 * (size or 1.0)).to(parameter))
    return moved


def placement(backbone: nn.Module) -> tuple[torch.dtype, torch.device]:
    """The precision and the device of a module: those of its first floating parameter or buffer."""
    tensors = itertools.chain(backbone.parameters(), backbone.buffers())
    first = next((t for t in tensors if t.is_floating_point()), torch.zeros(()))
    return first.dtype, first.device


def gradient_scales(gradients: dict[str, Tensor]) -> dict[str, float]:
    """Each gradient's largest entry, but no less than a hundredth of the largest of all: below that is rounding."""
    sizes = {name: float(g.abs().max()) if g.numel() else 0.0 for name, g in gradients.items()}
    least = max(sizes.values()) / 100
    return {name: max(size, least) for name, size in sizes.items()}


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())


def _errors(trial: Trial, twin: Trial) -> tuple[float, float, float]:
    """Largest relative errors of `step` in float32 against float64: features, state, gradients."""
    carried = tree.map_tree(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, trial.carried)
    got, want = trial.outcome(loop, trial.carried), twin.outcome(loop, carried)
    scales = gradient_scales(want.gradients)
    state = [largest(a, b) for a, b in zip(got.state, want.state, strict=True)]
    gradients = [largest(got.gradients[name], g, scales[name]) for name, g in want.gradients.items()]
    return largest(got.features, want.features), max(state, default=0.0), max(gradients, default=0.0)
