"""What a backbone hands out, looked at before any law: is it what the contract speaks of at all?"""

from __future__ import annotations

import collections
import functools
import inspect
import traceback
import typing
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wmkit import tree
from wmkit.backbones.base import Backbone, ParameterGroup, PosteriorName, collected_losses
from wmkit.testing.tolerance import named_leaves
from wmkit.testing.trial import clone, placement
from wmkit.tree import State

ROWS, STEPS = 3, 2
CONTAINERS = (dict, collections.OrderedDict, list, tuple)
"""Exactly these: `torch.load` refuses other classes, such as a namedtuple, in a saved state."""


def diagnose(backbone: Backbone) -> str | None:
    """The first thing that is not as the contract has it, in one sentence with its place; None where all is."""
    try:
        module = _called("copy.deepcopy of the module", lambda: clone(backbone))
        with torch.no_grad(), collected_losses() as losses:
            complaint = next(_complaints(module), None)
            if complaint is None:
                _called("what add_loss was given", losses)
                _called("after_update()", module.after_update)
            return complaint
    except _CallFailed as failed:
        return str(failed)


def described(error: Exception) -> str:
    """What was raised; where it says nothing itself, such as a bare `assert`, with the line that raised it."""
    if str(error):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{error!r} at {frames[-1].filename}:{frames[-1].lineno}, {frames[-1].line}" if frames else repr(error)


class _CallFailed(Exception):
    """A call of the backbone raised; the text says which."""


def _complaints(backbone: Backbone) -> Iterator[str]:
    yield from _attributes(backbone)
    dtype, device = placement(backbone)
    x = torch.randn(ROWS, STEPS, backbone.input_dim, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    width = backbone.feature_dim
    initial = _called(f"initial_state({ROWS})", lambda: backbone.initial_state(ROWS))
    yield from _state(f"initial_state({ROWS})", initial, ROWS)
    for path, leaf in named_leaves(initial).items():
        finer = leaf.is_floating_point() and torch.finfo(leaf.dtype).eps < torch.finfo(dtype).eps
        if finer or leaf.device != device:
            yield (
                f"initial_state({ROWS}), {path}: {leaf.dtype} on {leaf.device}, expected {dtype} on {device}, where "
                "the module's parameters are: make it by `parameter.new_zeros(...)`"
            )
    alone = _called("initial_state(1)", lambda: backbone.initial_state(1))
    yield from _state("initial_state(1)", alone, 1)
    yield from _like(f"initial_state({ROWS})", initial, "initial_state(1)", alone)
    unknown = [p for p in backbone.not_differentiable if f"state{p}" not in named_leaves(initial)]
    if unknown:
        paths = ", ".join(repr(path.removeprefix("state")) for path in named_leaves(initial))
        yield f"not_differentiable names {unknown[0]!r}, expected paths of the state's leaves, of which it has {paths}"
    call = f"step(x ({ROWS}, {backbone.input_dim}), initial_state({ROWS}))"
    stepped = _called(call, lambda: backbone.step(x[:, 0], initial))
    yield from _answer(call, stepped, (ROWS, width), initial, dtype)
    yield from _compared(backbone, stepped[1])
    marks = torch.zeros(ROWS, STEPS, dtype=torch.bool, device=device)
    calls: dict[str, tuple[State | None, Tensor | None, bool]] = {
        "state=None, is_first=None, return_state=True": (None, None, True),
        "state=initial_state, is_first=None, return_state=True": (initial, None, True),
        "state=None, is_first=zeros, return_state=True": (None, marks, True),
        "state=None, is_first=None, return_state=False": (None, None, False),
    }
    for name, (state, is_first, return_state) in calls.items():
        call = f"scan(x ({ROWS}, {STEPS}, {backbone.input_dim}), {name})"
        answer = _called(call, functools.partial(backbone.scan, x, state, is_first, return_state))
        yield from _answer(call, answer, (ROWS, STEPS, width), initial if return_state else None, dtype)


def _called(what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # a user's code may raise anything
        raise _CallFailed(f"{what} raised {described(error)}") from error


def _attributes(backbone: Backbone) -> Iterator[str]:
    """Parameters, widths, the default posterior, the kind of the parameter groups, `scan`'s arguments, `prepared`."""
    for name, tensor in [*backbone.named_parameters(), *backbone.named_buffers()]:
        kind = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
        if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
            yield f"{kind} {name} has no shape yet: call the lazy module on one input before it is checked"
        elif tensor.is_complex():
            yield f"{kind} {name} is {tensor.dtype}, expected real numbers with a last axis of 2 (torch.view_as_real)"
    for name in ("input_dim", "feature_dim"):
        value = getattr(backbone, name, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield f"{name} is {value!r}, expected a positive int: set it in __init__"
    known = typing.get_args(PosteriorName)
    if backbone.default_posterior not in known:
        yield f"default_posterior is {backbone.default_posterior!r}, expected one of {', '.join(known)}"
    declared = backbone.not_differentiable
    if not isinstance(declared, tuple | list) or not all(isinstance(path, str) for path in declared):
        yield f"not_differentiable is {declared!r}, expected a tuple of paths such as (\"['count']\", '[1]')"
    names = list(_called("the signature of scan", lambda: inspect.signature(backbone.scan)).parameters.values())
    if not any(name.kind == inspect.Parameter.VAR_POSITIONAL for name in names):
        taken = [name.name for name in names if name.kind != inspect.Parameter.KEYWORD_ONLY]
        if taken[1:4] != ["state", "is_first", "return_state"]:
            yield f"scan takes ({', '.join(taken)}), expected (x, state=None, is_first=None, return_state=True)"
    block = _called("prepared()", backbone.prepared)
    if not hasattr(block, "__enter__"):
        yield f"prepared() gives a {type(block).__name__}, expected a block: put @contextlib.contextmanager above it"
    groups = _called("parameter_groups()", backbone.parameter_groups)
    if not isinstance(groups, list | tuple) or not all(isinstance(group, ParameterGroup) for group in groups):
        yield f"parameter_groups() is {groups!r}, expected a list of wmkit.backbones.base.ParameterGroup"


def _state(what: str, state: State, rows: int) -> Iterator[str]:
    """A tree of dicts, lists and tuples of real tensors (rows, ...)."""
    yield from _kinds(what, state)
    for path, leaf in named_leaves(state).items():
        if leaf.ndim == 0 or leaf.shape[0] != rows:
            yield f"{what}, {path}: shape {tuple(leaf.shape)}, expected ({rows}, ...): the batch comes first"
        if leaf.is_complex():
            yield f"{what}, {path}: {leaf.dtype}, expected real numbers with a last axis of 2 (torch.view_as_real)"


def _kinds(what: str, state: Any, path: str = "state") -> Iterator[str]:
    """Every node is a tensor or a container."""
    if isinstance(state, Tensor):
        return
    if type(state) not in CONTAINERS:
        kind = "None" if state is None else f"a {type(state).__name__}"
        if isinstance(state, CONTAINERS):
            kind += ", which torch.load refuses in a saved state"
        yield f"{what}: {path} is {kind}, expected a tensor, or a dict, list or tuple of tensors with the batch first"
        return
    items = state.items() if isinstance(state, dict) else enumerate(state)
    for key, child in items:
        yield from _kinds(what, child, f"{path}[{key!r}]")


def _compared(backbone: Backbone, state: State) -> Iterator[str]:
    """`comparable_state` gives a state and leaves the one that it was given."""
    before = tree.map_tree(Tensor.clone, state)
    yield from _kinds(
        "comparable_state(state)", _called("comparable_state(state)", lambda: backbone.comparable_state(state))
    )
    for (path, leaf), was in zip(named_leaves(state).items(), tree.leaves(before), strict=True):
        if not torch.equal(leaf.nan_to_num(), was.nan_to_num()):
            yield f"comparable_state(state) wrote to {path} of its argument, expected it unchanged: make a new tensor"


def _like(what: str, state: State, other: str, first: State) -> Iterator[str]:
    """One structure, and leaves alike but for the number of rows."""
    if pytree.tree_structure(state) != pytree.tree_structure(first):
        ours, theirs = (", ".join(named_leaves(one)) or "no tensor" for one in (state, first))
        yield f"{what}: the state's structure differs from that of {other}: {ours}, expected {theirs}"
        return
    for (path, leaf), was in zip(named_leaves(state).items(), named_leaves(first).values(), strict=True):
        if (leaf.dtype, leaf.shape[1:]) != (was.dtype, was.shape[1:]):
            yield (
                f"{what}, {path}: {leaf.dtype} {tuple(leaf.shape)} where {other} has {was.dtype} {tuple(was.shape)}, "
                "expected the same but for the rows"
            )


def _answer(call: str, answer: Any, shape: tuple[int, ...], initial: State | None, dtype: torch.dtype) -> Iterator[str]:
    """(features of that shape, state like `initial`), or (features, None) where `initial` is None."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        yield f"{call} returned a {type(answer).__name__}, expected the pair (features, state)"
        return
    features, state = answer
    if not isinstance(features, Tensor):
        yield f"{call}: features are a {type(features).__name__}, expected a tensor"
        return
    if features.shape != shape:
        yield f"{call}: features of shape {tuple(features.shape)}, expected {shape} (feature_dim = {shape[-1]})"
    if features.dtype != dtype:
        yield f"{call}: features in {features.dtype}, expected {dtype}, that of the inputs and the parameters"
    if initial is None:
        if state is not None:
            yield f"{call} returned a state, expected None in its place"
        return
    yield from _state(call, state, shape[0])
    yield from _like(call, state, f"initial_state({shape[0]})", initial)
