"""What the laws are tried on: copies of the backbone, inputs, incoming states and what rounding may cost."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
from typing import TypeVar

import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.backbones.base import Backbone
from wmkit.testing.situations import Situation, Start
from wmkit.testing.tolerance import LARGEST_ERROR, Tolerance, largest, named_leaves, scale_of, state_error
from wmkit.tree import State

Module = TypeVar("Module", bound=nn.Module)

EARLIER = 7
"""Steps that a carried state has behind it."""

SINGLE_INSIDE = (1e-10, 1e-5)
"""Relative noise in float64 where something computes in float32 inside: doubles make 1e-15, and more is no rounding."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call gives: features, the last state where it was asked for, and gradients by source where wanted."""

    features: Tensor
    state: State | None
    gradients: dict[str, Tensor]


class Trial:
    """Copies of one backbone, of which each law may take what it needs; the original is left alone.

    A jittered copy has every parameter moved, so that nothing hides behind a weight that starts at zero. Copies in
    train() drop nothing out (`nn.Dropout` at 0), so that two paths can be compared.
    """

    def __init__(self, backbone: Backbone, *, seed: int, tolerance: float | None) -> None:
        self.backbone, self.seed, self.given = backbone, seed, tolerance
        self.dtype, self.device = placement(backbone)
        self.width = backbone.input_dim
        self._modules: dict[tuple[bool, bool, torch.dtype], Backbone] = {}
        self._carried: dict[tuple[int, bool, bool], State] = {}

    def module(self, *, jittered: bool = True, training: bool = False, dtype: torch.dtype | None = None) -> Backbone:
        """The copy of that kind, made once."""
        dtype = self.dtype if dtype is None else dtype
        key = jittered, training, dtype
        if key not in self._modules:
            fresh = clone(self.backbone)
            moved = _jitter(fresh) if jittered else fresh
            moved = moved.to(dtype) if dtype != self.dtype else moved
            self._modules[key] = without_dropout(moved).train(training)
        return self._modules[key]

    def fresh(self, *, training: bool = False) -> Backbone:
        """A jittered copy that no call has seen, unless the original has."""
        return without_dropout(jittered(self.backbone)).train(training)

    def inputs(self, number: int, rows: int, length: int) -> Tensor:
        """Standard normal x (rows, length, input_dim), the same for a number in any precision."""
        return noise(1000 * self.seed + number, (rows, length, self.width)).to(self.device, self.dtype)

    def start(self, kind: Start, rows: int, *, jittered: bool = True, training: bool = False) -> State | None:
        """The state before the first step; a new copy each time."""
        if kind == "none":
            return None
        module = self.module(jittered=jittered, training=training)
        with torch.no_grad():
            initial = module.initial_state(rows)
            if kind == "initial":
                return tree.map_tree(Tensor.clone, initial)
            key = rows, jittered, training
            if key not in self._carried:
                self._carried[key] = loop(module, self.inputs(1, rows, EARLIER), None)[1]
            carried = self._carried[key]
            fresh = torch.arange(rows, device=self.device) % 2 == 1
            return tree.map_tree(Tensor.clone, tree.where(fresh, initial, carried) if kind == "mixed" else carried)

    def outcome(self, situation: Situation, *, stepwise: bool, dtype: torch.dtype | None = None) -> Outcome:
        """What `scan`, or the loop over `step` that it must equal, gives in a situation.

        dtype: computed in this precision instead of the backbone's, from the same numbers.
        """
        how = {"jittered": situation.jittered, "training": situation.training}
        module = self.module(**how, dtype=dtype)
        x = self.inputs(0, situation.rows, situation.length)
        state = self.start(situation.start, situation.rows, **how)
        if dtype is not None:
            x, state = x.to(dtype), cast(state, dtype)
        if situation.strided:
            x, state = _strided(x), None if state is None else tree.map_tree(_strided, state)
        is_first = situation.is_first(self.device)
        run = loop if stepwise else scan
        if not situation.gradient:
            with torch.no_grad():
                features, last = run(module, x, state, is_first, situation.return_state)
            return Outcome(features, last, {})
        x, state = _leaf(x), None if state is None else tree.map_tree(_leaf, state)
        sources = {"x": x}
        if state is not None:
            sources |= {path: leaf for path, leaf in named_leaves(state).items() if leaf.requires_grad}
        sources |= {name: p for name, p in module.named_parameters() if p.requires_grad}
        with torch.enable_grad():
            features, last = run(module, x, state, is_first, situation.return_state)
            total = functional([features, *([] if last is None else tree.leaves(self.comparable(last)))])
        wanted = list(sources.values())
        if total.requires_grad:
            found = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        else:
            found = tuple(torch.zeros_like(source) for source in wanted)
        ignored = {f"state{path}" for path in self.backbone.not_differentiable}
        gradients = {name: g for name, g in zip(sources, found, strict=True) if name not in ignored}
        return Outcome(features.detach(), None if last is None else tree.detach(last), gradients)

    def comparable(self, state: State) -> State:
        """The state as the backbone says that it is to be compared."""
        return self.backbone.comparable_state(state)

    @functools.cached_property
    def floor(self) -> Tolerance:
        """What is allowed where nothing is measured: the given tolerance, or that of the precision; see `tolerance`."""
        floor = Tolerance.floor(self.dtype)
        if self.given is not None:
            return Tolerance(self.given, max(self.given, floor.state), self.given)
        if self.dtype == torch.float64:
            return floor.widened(10 * self.noise_in_double, 10 * self.noise_in_double, 100 * self.noise_in_double)
        return floor

    def tolerance(self, situation: Situation, scanned: Outcome, stepped: Outcome) -> Tolerance:
        """The floor and, in float32, twice what rounding costs either path in this very situation."""
        if self.given is not None or self.dtype == torch.float64:
            return self.floor
        try:
            want, path = (self.outcome(situation, stepwise=stepwise, dtype=torch.float64) for stepwise in (True, False))
        except Exception:  # code that knows float32 alone; float64 is a yardstick here, not a law
            return self.floor
        pairs = [(stepped, want)]
        if max(self._errors(path, want)) < LARGEST_ERROR / 100:  # else the two differ by more than their rounding
            pairs.append((scanned, path))
        errors = [self._errors(got, exact) for got, exact in pairs]
        return self.floor.widened(*(max(each) for each in zip(*errors, strict=True)))

    def _errors(self, got: Outcome, want: Outcome) -> tuple[float, float, float]:
        """Of features, last state and gradients."""
        state = 0.0 if want.state is None else state_error(self.comparable(got.state), self.comparable(want.state))
        scales = gradient_scales(want.gradients)
        gradients = [largest(got.gradients[name], g, scales[name]) for name, g in want.gradients.items()]
        return largest(got.features, want.features), state, max(gradients, default=0.0)

    @functools.cached_property
    def noise_in_double(self) -> float:
        """Relative noise of the outputs in float64: |f(x + 2d) - 2 f(x + d) + f(x)| for a tiny d.

        For a smooth f in doubles that is rounding, 1e-15; where something computes in float32 inside, about 1e-8. What
        is no rounding, such as random numbers, counts as 0.
        """
        module = self.module(dtype=torch.float64)
        x = self.inputs(0, 3, 16).double()
        state = cast(self.start("carried", 3), torch.float64)
        direction = self.inputs(2, 3, 16).double() * 3e-8  # turns last bits of singles, and its square is below 1e-14
        with torch.no_grad():
            runs = [loop(module, x + k * direction, tree.map_tree(Tensor.clone, state)) for k in range(3)]
        before, middle, after = ([y.detach() for y in (features, *tree.leaves(last))] for features, last in runs)
        noise_seen = max(
            float((c - 2 * b + a).abs().nan_to_num().max()) / max(scale_of(b), 1e-30)
            for a, b, c in zip(before, middle, after, strict=True)
            if b.is_floating_point() and b.numel()
        )
        return noise_seen if noise_seen < SINGLE_INSIDE[1] else 0.0

    @functools.cached_property
    def single_inside(self) -> bool:
        """Does something compute in float32 although the module is in float64? False where float64 is refused."""
        try:
            return self.noise_in_double > SINGLE_INSIDE[0]
        except (RuntimeError, TypeError):
            return False

    @functools.cached_property
    def random_in_train(self) -> bool:
        """Do two equal calls in train() differ, dropout modules aside?"""
        module, x = self.module(training=True), self.inputs(0, 3, 16)
        results = []
        for seed in (0, 1):
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(seed)
                results.append(scan(copy.deepcopy(module), x, None)[0])
        return not torch.equal(*results)


def scan(
    backbone: Backbone, x: Tensor, state: State | None, is_first: Tensor | None = None, return_state: bool = True
) -> tuple[Tensor, State | None]:
    """The backbone's own `scan`."""
    features, last = backbone.scan(x, state, is_first, return_state)
    return features, last


def loop(
    backbone: Backbone, x: Tensor, state: State | None, is_first: Tensor | None = None, return_state: bool = True
) -> tuple[Tensor, State | None]:
    """What `scan` must equal: `step` after `step`, the initial state put in wherever `is_first` says so."""
    return Backbone.scan(backbone, x, state, is_first, return_state)


def cast(state: State | None, dtype: torch.dtype) -> State | None:
    """A copy of the state with its floating leaves in this precision."""
    if state is None:
        return None
    return tree.map_tree(lambda s: s.detach().to(dtype, copy=True) if s.is_floating_point() else s.clone(), state)


def functional(tensors: list[Tensor]) -> Tensor:
    """A fixed random weighting of every entry of the floating tensors, summed."""
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    terms = [(noise(100 + i, t.shape).to(t.device, t.dtype) * t).sum() for i, t in enumerate(floating)]
    return torch.stack([term.double() for term in terms]).sum()


def noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers that depend on nothing but `seed` and `shape`."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clone(module: Module) -> Module:
    """A copy in eval(), with gradients cleared; the caller's module is left alone."""
    fresh = copy.deepcopy(module).eval()
    fresh.zero_grad(set_to_none=True)
    return fresh


def jittered(module: Module) -> Module:
    """A copy with every floating parameter moved by a tenth of its size (of 1 where it is zero)."""
    return _jitter(clone(module))


def _jitter(module: Module) -> Module:
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            if parameter.is_floating_point():
                size = float(parameter.double().square().mean().sqrt()) if parameter.numel() else 0.0
                parameter.add_((noise(200 + i, parameter.shape) * 0.1 * (size or 1.0)).to(parameter))
    return module


def without_dropout(module: Module) -> Module:
    """The module itself, its dropout modules at 0."""
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
    return module


def placement(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """The precision and the device of a module: those of its first floating parameter or buffer."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    first = next((t for t in tensors if t.is_floating_point()), torch.zeros(()))
    return first.dtype, first.device


def gradient_scales(gradients: dict[str, Tensor]) -> dict[str, float]:
    """Each gradient's largest entry, but no less than a hundredth of the largest of all: below that is rounding."""
    sizes = {name: float(g.abs().max()) if g.numel() else 0.0 for name, g in gradients.items()}
    least = max(sizes.values(), default=0.0) / 100
    return {name: max(size, least) for name, size in sizes.items()}


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.is_floating_point())


def _strided(tensor: Tensor) -> Tensor:
    """The same numbers at every second place of both leading axes, as indexing leaves them."""
    wide = tensor.repeat_interleave(2, dim=0)
    if tensor.ndim > 1:
        return wide.repeat_interleave(2, dim=1)[::2, ::2]
    return wide[::2]
