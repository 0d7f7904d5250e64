"""What the laws are tried on: copies of the backbone, inputs, incoming states and what rounding may cost."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import itertools
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from wmkit import tree
from wmkit.backbones.base import Backbone
from wmkit.testing.situations import Situation, Start
from wmkit.testing.tolerance import HUGE, LARGEST_ERROR, Tolerance, largest, named_leaves, state_error
from wmkit.tree import State

Module = TypeVar("Module", bound=nn.Module)

EARLIER = 7
"""Steps that a carried state has behind it."""

PIECE = 32
"""Steps of the pieces that a long scan is compared with; twice as many beyond 128 steps."""


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

    def __init__(
        self, backbone: Backbone, *, seed: int, tolerance: float | None, longest_loop: int, settings: dict[str, object]
    ) -> None:
        self.backbone, self.seed, self.given = backbone, seed, tolerance
        self.longest_loop, self.settings = longest_loop, settings
        self.dtype, self.device = placement(backbone)
        self.width = backbone.input_dim
        self._modules: dict[tuple[bool, bool, torch.dtype], Backbone] = {}
        self._carried: dict[tuple[int, bool, bool], State] = {}
        self.coarse = False
        """Is `floor` that of the coarsest precision that the backbone computes in inside?"""
        self._coarsest: dict[torch.dtype, torch.dtype] = {}

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

        Beyond `longest_loop` steps the loop is one over short scans, which shorter situations compare with `step`. In
        train() the call is made inside `prepared()`, as `WorldModel.observe` makes it.
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
        if situation.strided and is_first is not None:
            is_first = _strided(is_first)
        run = scan if not stepwise else loop if situation.length <= self.longest_loop else pieces
        block = module.prepared if situation.training else contextlib.nullcontext
        if not situation.gradient:
            with torch.no_grad(), block():
                features, last = run(module, x, state, is_first, situation.return_state)
            return Outcome(features, last, {})
        x, state = _leaf(x), None if state is None else tree.map_tree(_leaf, state)
        sources = {"x": x}
        if state is not None:
            sources |= {path: leaf for path, leaf in named_leaves(state).items() if leaf.requires_grad}
        sources |= {name: p for name, p in module.named_parameters() if p.requires_grad}
        with torch.enable_grad(), block():
            features, last = run(module, x, state, is_first, situation.return_state)
            total = functional([features, *([] if last is None else tree.leaves(self.comparable(last)))])
        wanted = list(sources.values())
        if total.requires_grad:
            found = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        else:
            found = tuple(torch.zeros_like(source) for source in wanted)
        ignored = {f"state{path}" for path in self.backbone.not_differentiable}
        gradients = {  # there is no derivative by an entry that stands for infinity
            name: gradient.masked_fill(~(source.abs() < HUGE), 0.0)
            for (name, source), gradient in zip(sources.items(), found, strict=True)
            if name not in ignored
        }
        return Outcome(features.detach(), None if last is None else tree.detach(last), gradients)

    def comparable(self, state: State) -> State:
        """The state as the backbone says that it is to be compared."""
        return self.backbone.comparable_state(state)

    @property
    def floor(self) -> Tolerance:
        """What is allowed where nothing is measured: the given tolerance, or that of the precision; see `tolerance`."""
        floor = Tolerance.inside(self.dtype, self.coarsest(self.dtype) if self.coarse else self.dtype)
        return floor if self.given is None else Tolerance(self.given, max(self.given, floor.state), self.given)

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

    def coarsest(self, dtype: torch.dtype) -> torch.dtype:
        """The coarsest type of floating point in which a copy in `dtype` computes; `dtype` where that copy fails."""
        if dtype not in self._coarsest:
            self._coarsest[dtype] = dtype
            module, x = self.module(dtype=dtype), self.inputs(0, 3, 4).to(dtype)
            try:
                with torch.no_grad(), _Precisions() as computed:
                    for run in (scan, loop):
                        run(module, x, module.initial_state(3), None)
                self._coarsest[dtype] = max({*computed.seen, dtype}, key=lambda kind: torch.finfo(kind).eps)
            except Exception:  # the laws say what and where; float64 may be refused
                return dtype
        return self._coarsest[dtype]

    @functools.cached_property
    def random_in_train(self) -> bool:
        """Do two equal calls in train() differ, dropout modules aside?"""
        return self.random(training=True)

    def random(self, *, training: bool) -> bool:
        """Do two equal calls differ?"""
        module, x = self.module(training=training), self.inputs(0, 3, 16)
        results = []
        try:
            for seed in (0, 1):
                with torch.random.fork_rng(), torch.no_grad():
                    torch.manual_seed(seed)
                    results.append(scan(copy.deepcopy(module), x, None)[0])
        except Exception:  # a user's code may raise anything; the laws say what and where
            return False
        return not torch.equal(*results)


class _Precisions(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch gives it no types
    """Notes the types of floating point of all that is computed in the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor this
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # single numbers, such as a constant, are as good in any precision
        leaves = (leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor) and leaf.ndim)
        self.seen |= {leaf.dtype for leaf in leaves if leaf.is_floating_point()}
        return result


class NoFunctionalDropout(TorchFunctionMode):
    """A block in which `F.dropout` and its kind drop nothing; `without_dropout` does so for modules."""

    DROPPING = frozenset(
        (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout,
         torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout)
    )  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.DROPPING:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            args, kwargs = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args, {**kwargs}
            kwargs.pop("dropout_p", None)
        return func(*args, **kwargs)


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


def pieces(
    backbone: Backbone, x: Tensor, state: State | None, is_first: Tensor | None = None, return_state: bool = True
) -> tuple[Tensor, State | None]:
    """What `loop` gives, sooner: two steps, then scans of `PIECE` steps or fewer without a reset inside."""
    length, fresh, features = x.shape[1], backbone.initial_state(len(x)), []
    state = fresh if state is None else state
    resets = [] if is_first is None else is_first.any(dim=0).nonzero()[:, 0].tolist()
    stride = PIECE if length <= 128 else 2 * PIECE
    cuts = sorted(t for t in {0, 1, 2, *range(stride, length, stride), *resets} if t < length)
    for start, stop in itertools.pairwise([*cuts, length]):
        if is_first is not None:
            state = tree.where(is_first[:, start], fresh, state)
        if stop <= 2:
            feature, state = backbone.step(x[:, start], state)
            features.append(feature[:, None])
        else:
            feature, state = backbone.scan(x[:, start:stop], state)
            features.append(feature)
    return torch.cat(features, dim=1), state if return_state else None


def cast(state: State | None, dtype: torch.dtype) -> State | None:
    """A copy of the state with its floating leaves in this precision, but for those of sixteen bits."""
    if state is None:
        return None
    full = torch.float32, torch.float64
    return tree.map_tree(lambda s: s.detach().to(dtype, copy=True) if s.dtype in full else s.detach().clone(), state)


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
        elif isinstance(part, nn.RNNBase | nn.MultiheadAttention):
            part.dropout = 0.0
    return module


def process_settings() -> dict[str, object]:
    """What PyTorch is set to, for everybody."""
    asked = (
        torch.get_default_dtype,
        torch.get_float32_matmul_precision,
        torch.get_num_threads,
        torch.are_deterministic_algorithms_enabled,
    )
    return {f"torch.{ask.__name__}": ask() for ask in asked}


def placement(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """The precision and the device of a module: those of its first floating parameter or buffer."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    known = (t for t in tensors if not isinstance(t, nn.UninitializedParameter | nn.UninitializedBuffer))
    first = next((t for t in known if t.is_floating_point()), torch.zeros(()))
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
