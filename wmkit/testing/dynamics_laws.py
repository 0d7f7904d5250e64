"""The laws of the dynamics contract. Each yields one sentence per breach."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wmkit import tree
from wmkit.testing.dynamics_trial import DynamicsTrial, Sequence, Signals, join, where_rows
from wmkit.testing.module_laws import only_moves_values
from wmkit.testing.tolerance import disagreement, disagreements
from wmkit.testing.trial import clone, functional, jittered
from wmkit.tree import State

Breaches = Iterator[str]


@torch.no_grad()
def pieces_equal_whole(trial: DynamicsTrial) -> Breaches:
    """1. Observing in pieces equals observing whole, wherever the dynamics may be cut; a context may be, too."""
    starts = {"a fresh state": None, "a carried state": trial.aligned}
    if trial.dynamics.causal:  # else its boundaries lie elsewhere
        starts["a running state"] = trial.running
    for start, state in starts.items():
        yield from _cut_anywhere(trial, f"from {start}", trial.sequence, state, trial.boundaries, begins=False)
    for context in (2, trial.whole - 1):
        before = trial.dynamics.initial_state(trial.batch_size, context)
        edges = range(1, context) if trial.dynamics.causal else range(context % trial.period, context, trial.period)
        cuts, sequence = [t for t in edges if t], trial.sequence.window(0, context)
        yield from _cut_anywhere(trial, f"of a context of {context}", sequence, before, cuts, begins=True)


@torch.no_grad()
def causality(trial: DynamicsTrial) -> Breaches:
    """2. Nothing of a later frame, action or noise enters an earlier step."""
    plain, _ = trial.observe(trial.sequence, None)
    for t in trial.boundaries:
        sequence = trial.sequence.until(t, trial.other)
        changed, _ = trial.observe(sequence, None)
        got, want = ({name: x[:, :t] for name, x in signals.items()} for signals in (changed, plain))
        yield from _same(trial, f"before t = {t}, with another sequence from there on", got, want)


@torch.no_grad()
def resets(trial: DynamicsTrial) -> Breaches:
    """3. `is_first` at t makes everything from t on equal a fresh start; where the clock forbids it, ValueError."""
    for t in sorted({0, trial.period, trial.whole - trial.period, trial.whole}):
        yield from _reset_at(trial, t)
    if trial.period > 1:
        for state, t in ((None, 1), (None, trial.whole + 1 - trial.period), (trial.running, 0)):
            yield from _refuses(trial, state, t)


@torch.no_grad()
def rows_apart(trial: DynamicsTrial) -> Breaches:
    """4. Rows do not see their neighbours."""
    plain, last = trial.observe(trial.sequence, trial.aligned)
    for row in (0, trial.batch_size - 1):
        chosen = torch.arange(trial.batch_size, device=trial.device) == row
        others = ~chosen
        sequence = where_rows(chosen, trial.other, trial.sequence)
        state = tree.where(chosen, trial.dynamics.initial_state(trial.batch_size), trial.aligned)
        changed, end = trial.observe(sequence, state)
        got, want = ({name: x[others] for name, x in signals.items()} for signals in (changed, plain))
        yield from _same(trial, f"other rows after row {row} changed", got, want)
        yield from _same_state(
            trial, f"state of other rows after row {row} changed", tree.index(end, others), tree.index(last, others)
        )


def gradients(trial: DynamicsTrial) -> Breaches:
    """5. Gradients reach every parameter and flow through the incoming state."""
    parameters = {name: p for name, p in trial.dynamics.named_parameters() if p.requires_grad}
    state = tree.map_tree(_leaf, trial.running)
    leaves = {f"incoming state, leaf {i}": x for i, x in enumerate(tree.leaves(state)) if x.requires_grad}
    found: dict[str, list[Tensor]] = {}
    for sources, incoming in ((parameters, None), (parameters | leaves, state)):
        signals, _ = trial.observe(trial.sequence, incoming)
        total = functional([signals["h"], signals["z"], *_kls(signals)])
        grads = torch.autograd.grad(total, list(sources.values()), allow_unused=True, materialize_grads=True)
        for name, gradient in zip(sources, grads, strict=True):
            found.setdefault(name, []).append(gradient)
    for name, grads_of in found.items():
        if not all(bool(torch.isfinite(g).all()) for g in grads_of):
            yield f"the gradient of {name} is not finite"
        elif grads_of[0].numel() and not any(bool(g.any()) for g in grads_of):
            yield f"no gradient reaches {name}"


@torch.no_grad()
def saving(trial: DynamicsTrial) -> Breaches:
    """6. Saving and loading gives the same output."""
    file = io.BytesIO()
    torch.save(trial.dynamics.state_dict(), file)
    file.seek(0)
    loaded = jittered(trial.dynamics)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    got, want = (trial.observe(trial.sequence, None, dynamics=part)[0] for part in (loaded, trial.dynamics))
    yield from _same(trial, "after loading", got, want)


@torch.no_grad()
def states(trial: DynamicsTrial) -> Breaches:
    """7. State: batch first, stable shapes and dtypes, indexable, repeatable, detachable, never changed in place."""
    yield from _batch_first(trial)
    yield from _stable(trial)
    yield from _rows_can_be_moved(trial)
    yield from _untouched(trial)


@torch.no_grad()
def imagination(trial: DynamicsTrial) -> Breaches:
    """8. Imagining in pieces equals imagining whole, and changes with nothing but actions, noise and state."""
    for name, state in (("aligned", trial.aligned), ("running", trial.running)):
        whole, last = trial.imagine(trial.sequence, state)
        again, _ = trial.imagine(trial.sequence, state)
        yield from _same(trial, f"imagined twice from one {name} state", again, whole)
        for cut in range(1, trial.length):
            first, between = trial.imagine(trial.sequence.window(0, cut), state)
            second, end = trial.imagine(trial.sequence.window(cut, trial.length), between)
            yield from _same(trial, f"imagined from a {name} state, cut before {cut}", join([first, second]), whole)
            yield from _same_state(trial, f"state after imagining, cut before {cut}", end, last)


@torch.no_grad()
def lengths(trial: DynamicsTrial) -> Breaches:
    """9. Every KL term and entropy is (B, T); works at any length, and a long call changes nothing for a later one."""
    tensors = {**dict(trial.dynamics.named_parameters()), **dict(trial.dynamics.named_buffers())}
    versions = {name: tensor._version for name, tensor in tensors.items()}
    before, _ = trial.observe(trial.sequence, None)
    for length in (1, 2, trial.period, 20 * trial.whole):
        yield from _length(trial, length)
    after, _ = trial.observe(trial.sequence, None)
    yield from _same(trial, "the same short call before and after a long one", after, before)
    for name, tensor in tensors.items():
        if tensor._version != versions[name]:
            yield f"{name}: a parameter or buffer written in a call"


def precision(trial: DynamicsTrial) -> Breaches:
    """10. Under bf16 autocast recurrent accumulators stay fp32; a cache that only stores values may be rounded."""
    dynamics = clone(trial.dynamics).float()
    sequence = trial.sequence
    state = tree.map_tree(lambda x: _leaf(x.float() if x.is_floating_point() else x), trial.running)
    marks = trial.first_column(trial.length, begins=False)
    with torch.autocast(trial.device.type, torch.bfloat16):
        seen, end = dynamics.observe(sequence.float().inputs(marks), state)
    if not bool(torch.isfinite(seen.features).all()):
        yield "features are not finite"
    for i, (old, new) in enumerate(zip(tree.leaves(state), tree.leaves(end), strict=True)):
        if new.is_floating_point() and new.dtype != torch.float32 and not only_moves_values(old, new):
            yield f"state leaf {i} is {new.dtype}, expected float32"


def _cut_anywhere(
    trial: DynamicsTrial, what: str, sequence: Sequence, state: State | None, cuts: list[int], begins: bool
) -> Breaches:
    """Cut at one of the steps `cuts`, and at all of them."""
    whole, last = trial.in_pieces(sequence, state, [], begins)
    for cut in [*([t] for t in cuts), cuts]:
        got, end = trial.in_pieces(sequence, state, cut, begins)
        yield from _same(trial, f"{what}, cut before {cut}", got, whole)
        yield from _same_state(trial, f"last state {what}, cut before {cut}", end, last)


def _reset_at(trial: DynamicsTrial, t: int) -> Breaches:
    """One row reset at t: from there it is as in a call that begins there; all else is as without."""
    row = torch.arange(trial.batch_size, device=trial.device) == 0
    is_first = trial.first_column(trial.length, begins=False)
    is_first[0, t] = True
    got, end = trial.observe(trial.sequence, trial.aligned, is_first)
    plain, plain_end = trial.observe(trial.sequence, trial.aligned)
    fresh, fresh_end = trial.observe(trial.sequence.window(t, trial.length), None)
    past, want_past = ({name: x[:, :t] for name, x in signals.items()} for signals in (got, plain))
    yield from _same(trial, f"before a reset at t = {t}", past, want_past)
    now = {name: x[row, t:] for name, x in got.items()}
    yield from _same(trial, f"from a reset at t = {t} on", now, {name: x[row] for name, x in fresh.items()})
    others, want = ({name: x[~row] for name, x in signals.items()} for signals in (got, plain))
    yield from _same(trial, f"rows beside a reset at t = {t}", others, want)
    yield from _same_state(trial, f"last state after a reset at t = {t}", end, tree.where(row, fresh_end, plain_end))


def _refuses(trial: DynamicsTrial, state: State | None, t: int) -> Breaches:
    """A reset of one row out of step with the clock raises ValueError."""
    is_first = trial.first_column(trial.length, begins=state is None)
    is_first[0, t] = True
    try:
        trial.observe(trial.sequence, state, is_first)
    except ValueError:
        return
    yield f"an episode that begins out of step with the clock, at column {t}, raised no ValueError"


def _batch_first(trial: DynamicsTrial) -> Breaches:
    """Leaves (B, ...) at any B, real, in the module's precision."""
    for rows in (1, trial.batch_size):
        for i, leaf in enumerate(tree.leaves(trial.dynamics.initial_state(rows))):
            if leaf.ndim == 0 or leaf.shape[0] != rows:
                yield f"initial_state({rows}), leaf {i}: shape {tuple(leaf.shape)}, expected ({rows}, ...)"
            if leaf.is_complex() or (leaf.is_floating_point() and leaf.dtype != trial.dtype):
                yield f"initial_state, leaf {i}: {leaf.dtype}, expected {trial.dtype}"


def _stable(trial: DynamicsTrial) -> Breaches:
    """The state has one structure, whatever made it."""
    fresh = trial.dynamics.initial_state(trial.batch_size)
    made = {
        "observing one step": trial.carried(1),
        "observing": trial.running,
        "imagining": trial.imagine(trial.sequence, trial.aligned)[1],
    }
    for name, state in made.items():
        if pytree.tree_structure(state) != pytree.tree_structure(fresh):
            yield f"after {name}: the state's structure differs from initial_state's"
            continue
        for i, (leaf, first) in enumerate(zip(tree.leaves(state), tree.leaves(fresh), strict=True)):
            if (leaf.dtype, leaf.shape) != (first.dtype, first.shape):
                was = f"initially {first.dtype} {tuple(first.shape)}"
                yield f"after {name}, leaf {i}: {leaf.dtype} {tuple(leaf.shape)}, {was}"


def _rows_can_be_moved(trial: DynamicsTrial) -> Breaches:
    """Choosing or repeating rows of a state and of the inputs chooses or repeats rows of the results."""
    state = trial.running
    whole, last = trial.observe(trial.sequence, state)
    backwards = torch.arange(trial.batch_size - 1, 0, -1, device=trial.device)
    twice = torch.arange(trial.batch_size, device=trial.device).repeat_interleave(2)
    moved = {
        "choosing": (backwards, tree.index(state, backwards)),
        "repeating": (twice, tree.repeat(state, 2)),
        "detaching": (torch.arange(trial.batch_size, device=trial.device), tree.detach(state)),
    }
    for name, (rows, incoming) in moved.items():
        got, end = trial.observe(trial.sequence.rows(rows), incoming)
        yield from _same(trial, f"after {name} the state's rows", got, {key: x[rows] for key, x in whole.items()})
        yield from _same_state(trial, f"last state after {name} the state's rows", end, tree.index(last, rows))


def _untouched(trial: DynamicsTrial) -> Breaches:
    """A state that went into a call is the same after it."""
    is_first = trial.first_column(trial.length)
    calls: dict[str, Callable[[State], object]] = {
        "observe": lambda state: trial.observe(trial.sequence, state),
        "observe with resets": lambda state: trial.observe(trial.sequence, state, is_first),
        "imagine": lambda state: trial.imagine(trial.sequence, state),
    }
    for name, call in calls.items():
        state = trial.aligned
        before = [leaf.clone() for leaf in tree.leaves(state)]
        call(state)
        for i, (leaf, old) in enumerate(zip(tree.leaves(state), before, strict=True)):
            if not torch.equal(leaf, old):
                yield f"{name} changed the caller's state in place, leaf {i}"


def _length(trial: DynamicsTrial, length: int) -> Breaches:
    """Shapes at a length; finite numbers."""
    signals, _ = trial.observe(trial.random(7, trial.batch_size, length), None)
    for name, x in signals.items():
        lead = (trial.batch_size, length)
        if tuple(x.shape[:2]) != lead or (name not in ("h", "z", "posterior", "prior") and x.ndim != 2):
            yield f"{name} at length {length}: shape {tuple(x.shape)}, expected {lead} first"
        if not bool(torch.isfinite(x).all()):
            yield f"{name} at length {length}: not finite"


def _kls(signals: Signals) -> list[Tensor]:
    return [x for name, x in signals.items() if name.startswith("kl")]


def _same(trial: DynamicsTrial, what: str, got: Signals, want: Signals) -> Breaches:
    for name, x in want.items():
        yield from disagreement(f"{name} {what}", got[name], x, trial.tolerance.features)


def _same_state(trial: DynamicsTrial, what: str, got: State, want: State) -> Breaches:
    yield from disagreements(what, tree.leaves(got), tree.leaves(want), trial.tolerance.state)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())
