"""The backbone contract: what a sequence model must promise to be plugged into a world model."""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.checks import check_between
from wmkit.registry import Entry
from wmkit.tree import State

Table = TypeVar("Table")
PosteriorName = Literal["factorized", "filtering", "full"]


@dataclasses.dataclass(kw_only=True)
class BackboneConfig:
    """What the config of every backbone has; subclass it as a dataclass with a default on each field."""

    input_dim: int = 128
    """Features per step that enter the backbone."""

    @classmethod
    def for_size(cls, size: str) -> Self:
        """Numbers for a model size (`tiny`, `small`, `2d`, `3d`); the plain defaults unless overridden."""
        return cls()


@dataclasses.dataclass(frozen=True)
class ParameterGroup:
    """Parameters that want their own optimiser settings; None means as the run says.

    Raises `ValueError` for a group without parameters, for anything in it that is no `nn.Parameter`, and for rates that
    are no finite numbers of at least 0.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    """Given as any iterable, `module.parameters()` too; kept as a tuple, since a generator can be read only once."""
    lr: float | None = None
    """Learning rate, absolute (not a factor); it follows the run's schedule."""
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        where = f"ParameterGroup {self.name!r}"
        if isinstance(self.parameters, Tensor) or not isinstance(self.parameters, Iterable):
            given = type(self.parameters).__name__
            raise ValueError(
                f"{where}: expected several parameters, got a {given}; write (parameter,) for a single one"
            )
        object.__setattr__(self, "parameters", tuple(self.parameters))
        for parameter in self.parameters:
            if not isinstance(parameter, nn.Parameter):
                raise ValueError(f"{where}: expected parameters only, got a {type(parameter).__name__} among them")
        if not self.parameters:
            raise ValueError(f"{where}: it has no parameters; leave the group out")
        for setting in ("lr", "weight_decay"):
            value = getattr(self, setting)
            if value is not None:
                check_between(f"{where}: {setting}", value, 0)


_collector: ContextVar[dict[tuple[int, str], list[Tensor]] | None] = ContextVar("losses of backbones", default=None)
"""Who listens to `Backbone.add_loss` here: losses by backbone and name. None: nobody."""


@contextlib.contextmanager
def collected_losses() -> Iterator[Callable[[], dict[str, Tensor]]]:
    """A block that listens to `Backbone.add_loss`; what it gives returns the losses so far: name -> scalar.

    The mean over the calls of a backbone, the sum over backbones. Of this thread only, and of no block around it.
    """
    found: dict[tuple[int, str], list[Tensor]] = {}

    def losses() -> dict[str, Tensor]:
        by_name: dict[str, Tensor] = {}
        for (_, name), values in found.items():
            mean = torch.stack(values).mean()
            by_name[name] = by_name[name] + mean if name in by_name else mean
        return by_name

    token = _collector.set(found)
    try:
        yield losses
    finally:
        _collector.reset(token)


class Backbone(nn.Module, ABC):
    """A causal sequence model with an explicit state.

        features_t, s_t = step(x_t, s_{t-1})        s_{-1} = initial_state(B)
        features, s_{T-1} = scan(x, s_{-1}, is_first)

    Laws, checked by `wmkit.testing.check_backbone` in eval() and, dropout apart, in train():

     1. scan equals repeated step: outputs, final state, gradients, however it is called.
     2. Scanning in pieces equals scanning whole, wherever it is cut.
     3. Causality: changing x at t changes nothing before t.
     4. `is_first` at t makes everything from t on equal a fresh start; no NaN from before is left in
        features and states. In gradients of parameters it is: they are sums over all steps, and 0 * NaN is NaN.
     5. Rows do not see their neighbours; a row alone is the same row; `initial_state(n)` is n times `initial_state(1)`.
     6. Gradients reach every parameter, of the features or of what `add_loss` is given, flow through the incoming
        state, and are the derivatives.
     7. Saving and loading gives the same output; a saved state goes on in another copy of the module.
     8. State: batch first, stable shapes and dtypes, indexable, repeatable, detachable, no view of anything larger.
        No call writes to its arguments.
     9. Works at lengths beyond any seen before; no call leaves a trace that a later one sees.
    10. Under bf16 autocast, inputs in bf16 too, outputs and gradients stay near those in fp32, and recurrent
        accumulators stay fp32.

    Deterministic in eval(): same inputs, same outputs. Parameters, buffers and state leaves are real: complex numbers
    are stored as (..., 2), because `.to(float64)` on a complex parameter drops its imaginary part. Integer and bool
    state leaves are allowed and exempt from laws 6 and 10.
    """

    default_posterior: ClassVar[PosteriorName] = "factorized"
    """The posterior a world model uses with this backbone unless told otherwise."""

    not_differentiable: ClassVar[tuple[str, ...]] = ()
    """Paths of state leaves through which no gradient is wanted, as `torch.utils._pytree.keystr` writes them:
    `"['count']"`, `"[1]"`. For float leaves that count, or keep a running maximum that cancels out of the features (a
    stabiliser): laws 6 and 10 leave them out, as they do integer and bool leaves."""

    surrogate_gradients: ClassVar[bool] = False
    """Are gradients meant to be others than the derivatives, as straight through a rounding or from codes to what they
    stand for? Law 6 then leaves out the comparison with finite differences; everything else of it holds."""

    input_dim: int
    feature_dim: int

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state before any input: a pytree of real tensors, batch first, on the module's device and dtype."""

    @abstractmethod
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One time step: x (B, input_dim) -> (features (B, feature_dim), new state). `state` is not changed."""

    def scan(
        self, x: Tensor, state: State | None = None, is_first: Tensor | None = None, return_state: bool = True
    ) -> tuple[Tensor, State | None]:
        """All steps: x (B, T, input_dim) -> (features (B, T, feature_dim), state after the last step | None).

        `state=None` means `initial_state`. `is_first` (B, T) bool: where True the row's state is replaced by the
        initial one before the step; None promises that no row resets inside the sequence, so that parallel backbones
        may take their parallel path. `return_state=False` where nobody needs the last state: it can cost extra.
        This default is a loop over `step`.
        """
        batch_size, length, _ = x.shape
        fresh = self.initial_state(batch_size)
        state = fresh if state is None else state
        features = []
        with self.prepared():
            for t in range(length):
                if is_first is not None:
                    state = tree.where(is_first[:, t], fresh, state)
                feature, state = self.step(x[:, t], state)
                features.append(feature)
        return torch.stack(features, dim=1), tree.compact(state) if return_state else None

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """A block in which no parameter changes, so that what is computed from parameters is computed once.

            with backbone.prepared():
                for x in stream:
                    features, state = backbone.step(x, state)

        Every result is the same with and without; a backbone that computes tables for single steps (`s4`) is much
        faster with. States of single steps without gradients may share memory with the states before them
        (`transformer_xl`): clone one before you write into it. Blocks may be nested; `WorldModel.observe` and `imagine`
        enter one. After a change of parameters leave the block and enter a new one. With gradients to the parameters,
        one backward pass goes through the calls of a block, as it does through any shared intermediate result. By
        default nothing is kept.
        """
        yield

    def comparable_state(self, state: State) -> State:
        """The state as the laws compare it, entry by entry; the state itself unless overridden.

        For a state that can be written in more than one way: slots that a mask hides are set to zero, a ring buffer is
        rolled into the order of time. `state` is not changed: what is set to zero is a new tensor.
        """
        return state

    def add_loss(self, name: str, value: Tensor) -> None:
        """Add `value`, a scalar in nats per observation and already weighted, to the loss that is being worked out.

            self.add_loss("balance", 0.01 * imbalance)              # inside `step` or `scan`

        For what a backbone wants of training beside the model's own loss: experts in equal use, codes near their codes.
        `WorldModel.loss` adds it to its total and to its metrics under `name`, in `train()` and `eval()`; anywhere else
        (`observe`, `imagine`, a scan on its own) nobody listens and nothing happens. Several values of one name from
        one backbone count as their mean, so that what every `step` adds does not grow with the sequence; those of
        several backbones (the full posterior's, a clockwork's levels) are added up. Nothing is kept on the module.

        Raises `ValueError` for what is no scalar of floating point.
        """
        collector = _collector.get()
        if collector is None:
            return
        if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
            given = f"shape {tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else repr(value)
            raise ValueError(f"add_loss({name!r}, ...): expected a scalar tensor of floating point, got {given}")
        collector.setdefault((id(self), name), []).append(value)

    def after_update(self) -> None:
        """Called after every step of the optimiser, without gradients, in every process; not after a skipped step.

        For what follows the weights by a rule of its own: a slow copy of them, weights that stay on a sphere. It may
        write parameters and buffers in place. With several processes it must do the same in all of them. Outside of
        wmkit's trainer, call `WorldModel.after_update()` after `optimiser.step()`. By default nothing happens.
        """
        return None

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters that want their own optimiser settings; all others follow the run's."""
        return []


class WithTables(nn.Module):
    """A module that keeps tables while it is inside of `kept_tables`."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[Hashable, Any] | None = None
        """What was computed from the parameters since the block was entered; None outside of it."""

    def table(self, name: Hashable, make: Callable[[], Table]) -> Table:
        """`make()`, a function of the parameters alone; inside of the block the same one at every call.

        What carries a gradient to the parameters serves calls that want one, what does not serves the others. The
        latter is made outside inference mode, so that it can serve a call that differentiates in its inputs.
        """
        tables = self.tables
        if tables is None or torch.compiler.is_compiling():
            return make()
        key = name, self.wants_gradient()
        if key not in tables:
            with torch.inference_mode(False), torch.set_grad_enabled(key[1]):
                tables[key] = make()
        table: Table = tables[key]
        return table

    def wants_gradient(self) -> bool:
        """Is a gradient in the parameters wanted?"""
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())

    def __getstate__(self) -> dict[str, Any]:
        """Without the tables, so that a copy made inside of the block does not keep them for good."""
        return self.__dict__ | {"tables": None}


@contextlib.contextmanager
def kept_tables(module: nn.Module) -> Iterator[None]:
    """A block in which the module's parts keep their tables; in nested ones until the outermost ends."""
    entered = [part for part in module.modules() if isinstance(part, WithTables) and part.tables is None]
    for part in entered:
        part.tables = {}
    try:
        yield
    finally:
        for part in entered:
            part.tables = None


@contextlib.contextmanager
def all_prepared(module: nn.Module) -> Iterator[None]:
    """`Backbone.prepared` of every backbone in a module."""
    with contextlib.ExitStack() as blocks:
        for part in module.modules():
            if isinstance(part, Backbone):
                blocks.enter_context(part.prepared())
        yield


def build_backbone(entry: Entry, config: Any) -> Backbone:
    """The entry's class at `config`; raises `ValueError` for a class that is no `Backbone`."""
    core = entry.cls(config.input_dim, config)
    if not isinstance(core, Backbone):
        raise ValueError(f"{entry.origin} is registered as a backbone: make it a subclass of wmkit.Backbone")
    return core


def check_features(backbone: Backbone, features: Tensor, weight: Tensor) -> Tensor:
    """`features` of a backbone; raises `ValueError` where their precision is not that of the model's `weight`.

    Under autocast they may have another.
    """
    if features.dtype != weight.dtype and not torch.is_autocast_enabled(features.device.type):
        raise ValueError(
            f"{type(backbone).__name__}: its features are {features.dtype}, the model is {weight.dtype}; return them "
            "in the precision of the inputs, features.to(x.dtype)"
        )
    return features
