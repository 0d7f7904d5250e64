"""The laws of the dynamics contract. Each yields one sentence per breach."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wmkit import tree
from wmkit.testing.dynamics_trial import DynamicsTrial, Sequence, Signals, join, where_rows
from wmkit.testing.module_laws import compactness, far_apart, finite_differences, only_moves_values
from wmkit.testing.tolerance import disagreement, named_leaves, states_disagree
from wmkit.testing.trial import cast, clone, functional, jittered
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
    yield from _long(trial)


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
    for t in (trial.period, 4 * trial.period):
        yield from _forgets(trial, t)
    if trial.period > 1:
        for state, t in ((None, 1), (None, trial.whole + 1 - trial.period), (trial.running, 0)):
            yield from _refuses(trial, state, t)


@torch.no_grad()
def rows_apart(trial: DynamicsTrial) -> Breaches:
    """4. Rows do not see their neighbours."""
    plain, last = trial.observe(trial.sequence, trial.aligned)
    for row in (0, trial.batch_size - 1):
        alone = torch.tensor([row], device=trial.device)
        for name, state in (("a fresh state", None), ("a carried state", tree.index(trial.aligned, alone))):
            whole, whole_end = trial.observe(trial.sequence, None if state is None else trial.aligned)
            got, end = trial.observe(trial.sequence.rows(alone), state)
            what = f"row {row} alone against the same row in the batch, from {name}"
            yield from _same(trial, what, got, {key: x[alone] for key, x in whole.items()})
            yield from _same_state(trial, f"state of {what}", end, tree.index(whole_end, alone))
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


def gradients(trial: DynamicsTrial, notes: list[str]) -> Breaches:
    """5. Gradients reach every parameter and flow through the incoming state, and they are the derivatives."""
    parameters = {name: p for name, p in trial.dynamics.named_parameters() if p.requires_grad and p.numel()}
    state = tree.map_tree(_leaf, trial.running)
    leaves = {path: x for path, x in named_leaves(state).items() if x.requires_grad and trial.is_differentiable(path)}
    reached: dict[str, Tensor | None] = {}
    for sources, incoming in ((parameters, None), (parameters | leaves, state)):
        signals, _ = trial.observe(trial.sequence, incoming)
        total = functional([signals["h"], signals["z"], *_kls(signals)])
        grads = torch.autograd.grad(total, list(sources.values()), allow_unused=True)
        for name, gradient in zip(sources, grads, strict=True):
            before = reached.setdefault(name, None)
            if gradient is None:
                continue
            if not bool(torch.isfinite(gradient).all()):
                yield f"the gradient of {name} is not finite"
            entries = gradient != 0
            reached[name] = entries if before is None else before | entries
    for name, marks in reached.items():
        if marks is None:
            yield f"no gradient reaches {name}"
        elif not bool(marks.all()):
            share = 1 - float(marks.double().mean())
            notes.append(f"{share:.0%} of the entries of {name} {tuple(marks.shape)} never got a gradient")
    if not trial.training:
        yield from _derivative(trial)


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
    """7. State: batch first, stable, indexable, repeatable, detachable; nothing that went in is written or kept."""
    yield from _batch_first(trial)
    yield from _stable(trial)
    yield from _rows_can_be_moved(trial)
    for gradient in (False, True):
        with torch.set_grad_enabled(gradient):
            yield from _untouched(trial, " with gradients" * gradient)
    long = trial.random(6, trial.batch_size, 100)
    own = {p.untyped_storage().data_ptr(): name for name, p in trial.dynamics.named_parameters()}
    for name, state in (
        ("observe of 100 steps", trial.observe(long, None)[1]),
        ("imagine of 100 steps", trial.imagine(long, trial.aligned)[1]),
    ):
        yield from compactness(name, state, own)


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
    """9. Every KL term and entropy is (B, T); works at any length, and no call leaves a trace that another one sees."""
    tensors = {**dict(trial.dynamics.named_parameters()), **dict(trial.dynamics.named_buffers())}
    versions = {name: tensor._version for name, tensor in tensors.items()}
    generator = torch.get_rng_state()
    kept, _ = trial.observe(trial.sequence, None)
    before = {name: x.clone() for name, x in kept.items()}
    for length in (1, 2, trial.period, 20 * trial.whole):
        yield from _length(trial, length)
    for rows in (1, 17):
        trial.observe(trial.random(8, rows, trial.length), None)
    after, _ = trial.observe(trial.sequence, None)
    yield from _same(trial, "the same short call before and after others", after, before)
    overwritten = [name for name, x in kept.items() if not torch.equal(x, before[name])]
    yield from (f"{name} of an earlier call was overwritten" for name in overwritten)
    if not trial.training and not torch.equal(torch.get_rng_state(), generator):
        yield "calls in eval() draw from, or seed, PyTorch's global random numbers"
    for name, tensor in tensors.items():
        if tensor._version != versions[name]:
            yield f"{name}: a parameter or buffer written in a call"
    yield from _sees_new_parameters(trial)


def precision(trial: DynamicsTrial) -> Breaches:
    """10. Under bf16 autocast outputs stay near those in float32, and recurrent accumulators stay fp32."""
    dynamics = clone(trial.dynamics).float().train(trial.training)
    sequence = trial.sequence.float()
    for name, incoming in (("a fresh state", None), ("a running state", trial.running)):
        state = None if incoming is None else tree.map_tree(_leaf, cast(incoming, torch.float32))
        inputs = sequence.inputs(trial.first_column(trial.length, begins=state is None))
        with torch.no_grad():
            want, _ = dynamics.observe(inputs, state)
        with torch.autocast(trial.device.type, torch.bfloat16):
            seen, end = dynamics.observe(inputs, state)
        if not bool(torch.isfinite(seen.features).all()):
            yield f"features are not finite under bf16 autocast, from {name}"
        yield from far_apart(f"h under bf16 autocast, from {name}", seen.h.detach(), want.h)
        for path, new in named_leaves(end).items():
            old = None if state is None else named_leaves(state)[path]
            cached = old is not None and only_moves_values(old, new)
            if new.is_floating_point() and new.dtype != torch.float32 and not cached:
                yield f"{path} is {new.dtype} after observing from {name}, expected float32"


def _cut_anywhere(
    trial: DynamicsTrial, what: str, sequence: Sequence, state: State | None, cuts: list[int], begins: bool
) -> Breaches:
    """Cut at one of the steps `cuts`, in train() at every third of them, and at all of them."""
    whole, last = trial.in_pieces(sequence, state, [], begins)
    for cut in [*([t] for t in cuts[:: 3 if trial.training else 1]), cuts]:
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
        for path, leaf in named_leaves(trial.dynamics.initial_state(rows)).items():
            if leaf.ndim == 0 or leaf.shape[0] != rows:
                yield f"initial_state({rows}), {path}: shape {tuple(leaf.shape)}, expected ({rows}, ...)"
            if leaf.is_complex() or (leaf.is_floating_point() and leaf.dtype != trial.dtype):
                yield f"initial_state, {path}: {leaf.dtype}, expected {trial.dtype}"


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
        for (path, leaf), first in zip(named_leaves(state).items(), tree.leaves(fresh), strict=True):
            if (leaf.dtype, leaf.shape) != (first.dtype, first.shape):
                was = f"initially {first.dtype} {tuple(first.shape)}"
                yield f"after {name}, {path}: {leaf.dtype} {tuple(leaf.shape)}, {was}"


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


def _untouched(trial: DynamicsTrial, how: str) -> Breaches:
    """Inputs and a state that went into a call are the same after it."""
    is_first, sequence = trial.first_column(trial.length), trial.sequence
    calls: dict[str, Callable[[State], object]] = {
        "observe": lambda state: trial.observe(sequence, state),
        "observe with resets": lambda state: trial.observe(sequence, state, is_first),
        "imagine": lambda state: trial.imagine(sequence, state),
    }
    for name, call in calls.items():
        state = trial.aligned
        given = {"embed": sequence.embed, "action": sequence.action, "noise": sequence.noise, "is_first": is_first}
        given |= {f"the caller's state in place, {path}": leaf for path, leaf in named_leaves(state).items()}
        before = {key: x.clone() for key, x in given.items()}
        call(state)
        yield from (f"{name}{how} changed {key}" for key, x in given.items() if not torch.equal(x, before[key]))


def _long(trial: DynamicsTrial) -> Breaches:
    """At 64 steps and more: without the last state, from the initial one, with gradients, cut at multiples of 8."""
    everywhere = trial.period <= 4 and not trial.training  # 64 ticks of the slowest level too
    sequence = trial.random(5, trial.batch_size, 64 * trial.period if everywhere else 2 * trial.period + 64)
    plain, last = trial.observe(sequence, None)
    stateless, nothing = trial.observe(sequence, None, return_state=False)
    if nothing is not None:
        yield "return_state=False returned a state, expected None"
    yield from _same(trial, "with return_state=False", stateless, plain)
    begins = trial.first_column(sequence.embed.shape[1])
    explicit, end = trial.observe(sequence, trial.dynamics.initial_state(trial.batch_size), begins)
    yield from _same(trial, "from initial_state against None", explicit, plain)
    yield from _same_state(trial, "last state from initial_state against None", end, last)
    with torch.enable_grad():
        graded, _ = trial.observe(sequence, None, return_state=False)
    yield from _same(trial, "with gradients against without", graded, plain)
    stride = 1 if trial.dynamics.causal else trial.period
    cuts = sorted({t - t % stride for t in (8, 16, 32, 64, 100)} & set(range(1, sequence.embed.shape[1])))
    got, end = trial.in_pieces(sequence, None, cuts)
    yield from _same(trial, f"cut before {cuts}", got, plain)
    yield from _same_state(trial, f"last state, cut before {cuts}", end, last)


def _forgets(trial: DynamicsTrial, t: int) -> Breaches:
    """NaN in what one row reads before its reset at t leaves no trace."""
    sequence = trial.random(5, trial.batch_size, t + 2 * trial.period + 1)
    is_first = trial.first_column(sequence.embed.shape[1])
    is_first[0, t] = True
    embed = sequence.embed.clone()
    embed[0, max(0, t - 2)] = float("nan")
    plain, last = trial.observe(sequence, None, is_first)
    got, end = trial.observe(Sequence(embed, sequence.action, sequence.noise), None, is_first)
    ours, theirs = ({name: x[:, t:] for name, x in signals.items()} for signals in (got, plain))
    yield from _same(trial, f"from a reset at t = {t} on, NaN in the frames before it", ours, theirs)
    yield from _same_state(trial, f"last state after a reset at t = {t}, NaN in the frames before it", end, last)


def _sees_new_parameters(trial: DynamicsTrial) -> Breaches:
    """Parameters that changed in place between two calls count from the next call on."""
    dynamics = copy.deepcopy(trial.dynamics)
    trial.observe(trial.sequence, None, dynamics=dynamics)
    for parameter in dynamics.parameters():
        parameter.mul_(1.05)
    fresh = copy.deepcopy(trial.dynamics)
    fresh.load_state_dict(dynamics.state_dict())
    got, want = (trial.observe(trial.sequence, None, dynamics=one)[0] for one in (dynamics, fresh))
    yield from _same(trial, "after the parameters changed in place, against dynamics that start with them", got, want)


def _derivative(trial: DynamicsTrial) -> Breaches:
    """Gradients against central differences in float64."""
    try:
        dynamics = copy.deepcopy(trial.dynamics).double()
        state = cast(trial.running, torch.float64)
        sequence = Sequence(*(x.double() for x in (trial.sequence.embed, trial.sequence.action, trial.sequence.noise)))
        sources = {path: leaf for path, leaf in named_leaves(state).items() if leaf.is_floating_point()}
        sources = {path: leaf.requires_grad_() for path, leaf in sources.items() if trial.is_differentiable(path)}
        parameters: dict[str, Tensor] = {name: p for name, p in dynamics.named_parameters() if p.requires_grad}

        def total() -> Tensor:
            signals, _ = trial.observe(sequence, state, dynamics=dynamics)
            return functional([signals["h"], signals["posterior"], signals["prior"], *_kls(signals)])

        total()
    except (RuntimeError, TypeError):  # code that knows float32 alone
        return
    z = trial.observe(trial.sequence, None)[0]["z"].detach()
    if bool(((z - z.round()).abs() < 1e-4).all()):  # one-hot samples: straight-through gradients are no derivatives
        return
    groups = {"the incoming state": sources, "all parameters": parameters}
    yield from finite_differences("observe", groups, total, 1e-6, 1e-5)


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
    ours, theirs = (trial.dynamics.comparable_state(state) for state in (got, want))
    yield from states_disagree(what, ours, theirs, trial.tolerance.state)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())
