"""The laws of the dynamics contract. Each yields one sentence per breach."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from wmkit import tree
from wmkit.dynamics.base import Dynamics
from wmkit.testing.dynamics_trial import CHUNKS, TRAINED, WIDE, DynamicsTrial, Sequence, Signals, where_rows
from wmkit.testing.module_laws import ROUNDED, compactness, far_apart, finite_differences, only_moves_values
from wmkit.testing.tolerance import disagreement, named_leaves, scale_of, states_disagree
from wmkit.testing.trial import cast, clone, functional, jittered
from wmkit.tree import State

Breaches = Iterator[str]
Run = Callable[..., tuple[Signals, State]]

EMBED, ACTION = "the frames", "the actions"

LARGEST_GRADIENT_ERROR = 1e-2
"""Of its largest entry: gradients on two roads to one thing differ by less, one that is cut off by more."""


@torch.no_grad()
def pieces_equal_whole(trial: DynamicsTrial) -> Breaches:
    """1. Observing in pieces equals observing whole, wherever the dynamics may be cut; a context may be, too.

    With gradients or without, with the last state or without, and over many steps.
    """
    starts = {"a fresh state": None, "a carried state": trial.aligned}
    if trial.dynamics.causal and trial.period > 1:  # else its boundaries lie elsewhere, or it is a carried one
        starts["a running state"] = trial.running
    for start, state in starts.items():
        yield from _cut_anywhere(trial, f"from {start}", trial.sequence, state, trial.boundaries, begins=False)
        want, want_end = trial.observe(trial.sequence, state)
        for gradient, return_state in ((False, False), (True, False), (True, True)):
            how = f"from {start}, {'with' if gradient else 'without'} gradients, return_state={return_state}"
            with torch.set_grad_enabled(gradient):
                got, end = trial.observe(trial.sequence, state, return_state=return_state)
            yield from _same(trial, how, got, want)
            if return_state:
                yield from _same_state(trial, f"last state {how}", end, want_end)
            elif end is not None:
                yield f"{how}: a state came back, expected None"
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
    for number, t in enumerate(sorted({0, trial.period, trial.whole - trial.period, trial.whole})):
        is_first = trial.first_column(trial.length, begins=False)
        is_first[-(number % 2), t] = True  # the first row or the last one
        got, end = trial.observe(trial.sequence, trial.aligned, is_first)
        want, want_end = trial.restarted(trial.sequence, trial.aligned, is_first)
        yield from _same(trial, f"with a reset of one row at t = {t}", got, want)
        yield from _same_state(trial, f"last state with a reset of one row at t = {t}", end, want_end)
    together = trial.first_column(trial.length)
    together[0, trial.period] = True
    start, state = ("a fresh state", None) if trial.training else ("a carried state", trial.aligned)
    want, want_end = trial.restarted(trial.sequence, state, together)
    what = f"from {start}, all rows reset at t = 0, one later"
    with torch.set_grad_enabled(trial.training):
        got, end = trial.observe(trial.sequence, state, together)
        stateless, _ = trial.observe(trial.sequence, state, together, return_state=False)
    yield from _same(trial, what, got, want)
    yield from _same(trial, f"{what}, with return_state=False", stateless, want)
    yield from _same_state(trial, f"last state {what}", end, want_end)
    sequence, is_first = trial.random(5, trial.batch_size, trial.long), trial.many_resets(begins=trial.training)
    got, end = trial.observe(sequence, state, is_first.T.contiguous().T)
    want, want_end = trial.restarted(sequence, state, is_first)
    steps = sorted(is_first.any(0).nonzero().flatten().tolist())
    yield from _same(trial, f"with resets at t in {steps}, is_first not contiguous", got, want)
    yield from _same_state(trial, f"last state with resets at t in {steps}", end, want_end)
    yield from _forgets(trial, None, trial.period)
    if not trial.training:
        for t in (0, trial.ticks((40,), 41)[-1]):
            yield from _forgets(trial, trial.aligned, t)
    if trial.period > 1:
        for state, t in ((None, 1), (None, trial.whole + 1 - trial.period), (trial.running, 0)):
            yield from _refuses(trial, state, t)


@torch.no_grad()
def rows_apart(trial: DynamicsTrial) -> Breaches:
    """4. Rows do not see their neighbours, of which there may be any number."""
    plain, last = trial.observe(trial.sequence, trial.aligned)
    fresh, fresh_end = trial.observe(trial.sequence, None)
    imagined, imagined_end = trial.imagine(trial.sequence, trial.aligned)
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
    batches = {f"row {row} alone": torch.tensor([row]) for row in (0, trial.batch_size - 1)}
    for size in (
        (16, 33) if trial.training else (5, 16, 33, 64)
    ):  # in any order, so that no exchange of rows leaves the batch as it was
        order = torch.randint(trial.batch_size, (size,), generator=torch.Generator().manual_seed(size))
        batches[f"a batch of {size} rows"] = order
    for batch, order in batches.items():
        rows = order.to(trial.device)
        sequence, carried = trial.sequence.rows(rows), tree.index(trial.aligned, rows)
        ways = [("observed from a fresh state", trial.observe(sequence, None), fresh, fresh_end)]
        if len(rows) == 1 or not trial.training:
            ways += [
                ("observed from a carried state", trial.observe(sequence, carried), plain, last),
                ("imagined", trial.imagine(sequence, carried), imagined, imagined_end),
            ]
        for how, (got, end), whole, whole_end in ways:
            what = f"{batch} against the same rows in a batch of {trial.batch_size}, {how}"
            yield from _same(trial, what, got, {key: x[rows] for key, x in whole.items()})
            yield from _same_state(trial, f"state of {what}", end, tree.index(whole_end, rows))


def gradients(trial: DynamicsTrial) -> Breaches:
    """5. Gradients reach every parameter and flow through embeddings, actions and the incoming state.

    They are the derivatives, in observing and in imagining, whether parameters are frozen or not.
    """
    frozen = copy.deepcopy(trial.dynamics).requires_grad_(False)
    reached: dict[str, Tensor | None] = {}
    for how, run, state in (
        ("observe", trial.observe, None),
        ("observe", trial.observe, trial.running),
        ("imagine", trial.imagine, trial.running),
    ):
        found = _gradients(trial, run, trial.sequence, state)[2]
        parameters = {name for name, p in trial.dynamics.named_parameters() if p.requires_grad}
        for name, gradient in found.items():
            if how == "imagine" and (name in parameters or name == EMBED):
                continue
            label = name if name in parameters else f"{name} of {how}"
            if gradient is None or (name not in parameters and not bool(gradient.any())):
                if name in parameters or name in (EMBED, ACTION) or _depends_on(trial, run, state, name):
                    reached.setdefault(label, None)
                continue
            if not bool(torch.isfinite(gradient).all()):
                yield f"the gradient of {label} is not finite"
            before, entries = reached.get(label), gradient != 0
            reached[label] = entries if before is None else before | entries
        if state is None or trial.training:
            continue
        without = _gradients(trial, functools.partial(run, dynamics=frozen), trial.sequence, state, frozen)[2]
        yield from _gradients_differ(f"of {how} where parameters are frozen", without, _of_inputs(found))
    for name, marks in reached.items():
        if marks is None:
            yield f"no gradient reaches {name}"
        elif not bool(marks.all()) and not name.startswith((EMBED, ACTION)):
            share = 1 - float(marks.double().mean())
            trial.notes.append(f"{share:.0%} of the entries of {name} {tuple(marks.shape)} never got a gradient")
    if not trial.training and not trial.one_hot:  # straight-through gradients are no derivatives
        yield from _derivative(trial, "observe", trial.observe)
        yield from _derivative(trial, "imagine", trial.imagine)


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
    if trial.training:
        return
    long = trial.random(6, trial.batch_size, 100)
    own = {p.untyped_storage().data_ptr(): name for name, p in trial.dynamics.named_parameters()}
    for name, state in (
        ("observe of 100 steps", trial.observe(long, None)[1]),
        ("imagine of 100 steps", trial.imagine(long, trial.aligned)[1]),
    ):
        yield from compactness(name, state, own)


@torch.no_grad()
def imagination(trial: DynamicsTrial) -> Breaches:
    """8. Imagining in pieces equals imagining whole, and changes with nothing but actions, noise and state.

    Over many steps too, where gradients are the same as well.
    """
    starts = {"aligned": trial.aligned} | ({"running": trial.running} if trial.period > 1 else {})
    for name, state in starts.items():
        whole, last = trial.imagine(trial.sequence, state)
        again, _ = trial.imagine(trial.sequence, state)
        yield from _same(trial, f"imagined twice from one {name} state", again, whole)
        for cut in range(1, trial.length, 3 if trial.training else 2):
            got, end = trial.imagine_in_pieces(trial.sequence, state, [cut])
            yield from _same(trial, f"imagined from a {name} state, cut before {cut}", got, whole)
            yield from _same_state(trial, f"state after imagining, cut before {cut}", end, last)
    sequence, state = trial.random(5, trial.batch_size, 40 if trial.training else TRAINED), trial.running
    cuts = [t for t in CHUNKS if t < sequence.action.shape[1]]
    if not trial.training:
        whole, last = trial.imagine(sequence, state)
        got, end = trial.imagine_in_pieces(sequence, state, cuts)
    else:
        whole, last, want = _gradients(trial, trial.imagine, sequence, state)
        in_pieces = functools.partial(trial.imagine_in_pieces, cuts=cuts)
        got, end, found = _gradients(trial, in_pieces, sequence, state)
        yield from _gradients_differ(f"of imagining, cut before {cuts}", found, _of_inputs(want))
    yield from _same(trial, f"imagined, cut before {cuts}", got, whole)
    yield from _same_state(trial, f"state after imagining, cut before {cuts}", end, last)


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
    fresh = trial.fresh()
    with torch.inference_mode():
        trial.observe(trial.sequence, None, dynamics=fresh)
    with torch.enable_grad():  # what that call left behind must not stand in the way of training
        torch.autograd.backward(functional(list(trial.observe(trial.sequence, None, dynamics=fresh)[0].values())))
    yield from _sees_new_parameters(trial)


def precision(trial: DynamicsTrial) -> Breaches:
    """10. Under bf16 autocast outputs stay near float32, gradients flow, resets hold, accumulators stay fp32."""
    dynamics = clone(trial.dynamics).float()
    single = type(trial)(dynamics, trial.batch_size, None, seed=trial.seed, training=trial.training)
    single.dynamics = dynamics.train(trial.training)  # the parameters are moved already

    def autocast(run: Run, sequence: Sequence, state: State | None) -> tuple[Signals, State]:
        with torch.autocast(single.device.type, torch.bfloat16):
            return run(sequence, state)

    rounded = single.sequence.rounded()
    calls: list[tuple[str, Run, State | None]] = [("observing from a running state", single.observe, single.running)]
    if trial.training:
        calls.append(("observing from a fresh state", single.observe, None))
    else:
        calls.append(("imagining from a running state", single.imagine, single.running))
    for name, run, state in calls:
        want, _, exact = _gradients(single, run, rounded.to(torch.float32), state)
        got, end, found = _gradients(single, functools.partial(autocast, run), rounded, state)
        if not all(bool(torch.isfinite(got[part]).all()) for part in ("h", "z")):
            yield f"features are not finite under bf16 autocast, {name}"
        steps = 1 if run == single.imagine else None  # later ones follow samples that rounding moves
        flipped = ((got["z"] - want["z"]).abs().amax(-1) > 0.5).cumsum(1)  # (B, T): categories that it flips
        alike = F.pad(flipped, (1, -1)) == 0  # what follows a flipped one is another course of things
        ours, theirs = (h["h"][:, :steps][alike[:, :steps]] for h in (got, want))
        yield from far_apart(f"h under bf16 autocast, {name}", ours, theirs)
        for source, gradient in exact.items():
            if gradient is not None and bool(gradient.any()):
                close = found[source]
                if close is None or not bool(close.any()):
                    yield f"no gradient reaches {source} under bf16 autocast, {name}"
                elif not bool(torch.isfinite(close).all()):
                    yield f"the gradient of {source} is not finite under bf16 autocast, {name}"
        if rounded_leaves := [path for path, leaf in named_leaves(end).items() if _is_short(leaf)]:
            old = None if state is None else tree.map_tree(_leaf, state)
            new = named_leaves(autocast(run, rounded, old)[1])
            for path in rounded_leaves:
                if old is None or not only_moves_values(named_leaves(old)[path], new[path]):
                    yield f"{path} is {new[path].dtype} after {name}, expected float32"
    if trial.training:
        return
    length = single.in_periods(TRAINED)
    is_first, sequence = single.many_resets(False)[:, :length], single.random(5, single.batch_size, length)
    with torch.no_grad(), torch.autocast(single.device.type, torch.bfloat16):
        got, _ = single.observe(sequence, single.aligned, is_first, return_state=False)
        want, _ = single.restarted(sequence, single.aligned, is_first)
    for t in is_first.any(0).nonzero().flatten().tolist():
        what = f"h at t = {t}, where a row resets, under bf16 autocast: whole against pieces"
        yield from disagreement(what, got["h"][:, t], want["h"][:, t], ROUNDED)


def _cut_anywhere(
    trial: DynamicsTrial, what: str, sequence: Sequence, state: State | None, cuts: list[int], begins: bool
) -> Breaches:
    """Cut at one of the steps `cuts` and at all of them; at every third one in train() or with a past."""
    whole, last = trial.in_pieces(sequence, state, [], begins)
    for cut in [*([t] for t in cuts[:: 1 if state is None and not trial.training else 3]), cuts]:
        got, end = trial.in_pieces(sequence, state, cut, begins)
        yield from _same(trial, f"{what}, cut before {cut}", got, whole)
        yield from _same_state(trial, f"last state {what}, cut before {cut}", end, last)


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
    """Over many steps, cut where chunks begin; in train() over fewer, the same gradients too."""
    everywhere = trial.period <= 4 and not trial.training  # 64 ticks of the slowest level too
    length = max(trial.long, 64 * trial.period) if everywhere else trial.long
    sequence, cuts = trial.random(5, trial.batch_size, length), trial.ticks(CHUNKS, length)
    initial = trial.dynamics.initial_state(trial.batch_size)
    for start, state in (("a fresh state", None), ("a carried state", trial.aligned)):
        what = f"over {length} steps from {start}, cut before {cuts}"
        before = initial if state is None else state
        return_state = trial.training != (state is None)  # training wants none at first, and one in later windows
        run = functools.partial(trial.observe, return_state=return_state)
        in_pieces = functools.partial(trial.in_pieces, cuts=cuts, begins=state is None)
        if trial.training and state is not None:
            whole, last, want = _gradients(trial, run, sequence, state)
            got, end, found = _gradients(trial, in_pieces, sequence, before)
            yield from _gradients_differ(what, found, _of_inputs(want))
        else:
            with torch.set_grad_enabled(trial.training):
                whole, last = run(sequence, state)
            got, end = in_pieces(sequence, before)
        yield from _same(trial, f"{what}, whole with return_state={return_state}", got, whole)
        if return_state:
            yield from _same_state(trial, f"last state {what}", end, last)


def _forgets(trial: DynamicsTrial, state: State | None, t: int) -> Breaches:
    """NaN in one row's incoming state, and in what it reads before its reset at t, leaves no trace."""
    sequence = trial.random(5, trial.batch_size, t + 2 * trial.period + 1)
    is_first = trial.first_column(sequence.embed.shape[1], begins=state is None)
    is_first[0, t] = True
    plain, last = trial.observe(sequence, state, is_first)
    past = torch.zeros_like(is_first)
    past[0, max(0, t - 2) : t] = True
    gone = Sequence(*(x.masked_fill(past.unsqueeze(-1), float("nan")) for x in sequence.parts()))
    row = past[:, 0] if state is None else torch.arange(trial.batch_size, device=trial.device) == 0

    def spoilt(leaf: Tensor) -> Tensor:
        return leaf.masked_fill(row.reshape(-1, *[1] * (leaf.ndim - 1)), float("nan"))

    if state is not None:
        state = tree.map_tree(lambda leaf: spoilt(leaf) if leaf.is_floating_point() else leaf, state)
    got, end = trial.observe(gone, state, is_first)
    for rows, start in ((0, t), (slice(1, None), 0)):
        ours, theirs = ({name: x[rows, start:] for name, x in signals.items()} for signals in (got, plain))
        what = f"after a reset of row 0 at t = {t}, NaN in its state and frames before it"
        yield from _same(trial, what, ours, theirs)
    yield from _same_state(trial, f"last state {what}", end, last)


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


def _derivative(trial: DynamicsTrial, how: str, run: Run) -> Breaches:
    """Gradients against central differences in float64."""
    try:
        dynamics = copy.deepcopy(trial.dynamics).double()
        sequence, state = trial.sequence.to(torch.float64), cast(trial.running, torch.float64)
        sequence, state, inputs = _as_leaves(trial, sequence, state)

        def total() -> Tensor:
            signals, _ = run(sequence, state, dynamics=dynamics)
            named = [name for name in signals if name in WIDE or name.startswith("kl")]
            return functional([signals[name] for name in named])

        total()
    except (RuntimeError, TypeError):  # code that knows float32 alone
        return
    read = (ACTION,) if how == "imagine" else (EMBED, ACTION)
    groups = {
        "the incoming state": {name: x for name, x in inputs.items() if name not in (EMBED, ACTION)},
        " and ".join(read): {name: inputs[name] for name in read if name in inputs},
    }
    if how == "observe":
        groups["all parameters"] = {name: p for name, p in dynamics.named_parameters() if p.requires_grad}
    yield from finite_differences(how, {name: group for name, group in groups.items() if group}, total, 1e-6, 1e-5)


def _length(trial: DynamicsTrial, length: int) -> Breaches:
    """Shapes at a length; finite numbers."""
    signals, _ = trial.observe(trial.random(7, trial.batch_size, length), None)
    for name, x in signals.items():
        lead = (trial.batch_size, length)
        if tuple(x.shape[:2]) != lead or (name not in WIDE and x.ndim != 2):
            yield f"{name} at length {length}: shape {tuple(x.shape)}, expected {lead} first"
        if not bool(torch.isfinite(x).all()):
            yield f"{name} at length {length}: not finite"


def _same(trial: DynamicsTrial, what: str, got: Signals, want: Signals) -> Breaches:
    for name, x in want.items():
        yield from disagreement(f"{name} {what}", got[name], x, trial.tolerance.features)


def _same_state(trial: DynamicsTrial, what: str, got: State, want: State) -> Breaches:
    ours, theirs = (trial.dynamics.comparable_state(state) for state in (got, want))
    yield from states_disagree(what, ours, theirs, trial.tolerance.state)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())


def _as_leaves(
    trial: DynamicsTrial, sequence: Sequence, state: State | None
) -> tuple[Sequence, State | None, dict[str, Tensor]]:
    """Copies that gradients are wanted of, and those that can have any by name."""
    sequence = Sequence(_leaf(sequence.embed), _leaf(sequence.action), sequence.noise)
    state = None if state is None else tree.map_tree(_leaf, state)
    leaves = {EMBED: sequence.embed, ACTION: sequence.action}
    if state is not None:
        leaves |= {path: x for path, x in named_leaves(state).items() if trial.is_differentiable(path)}
    return sequence, state, {name: x for name, x in leaves.items() if x.requires_grad and x.numel()}


def _gradients(
    trial: DynamicsTrial, run: Run, sequence: Sequence, state: State | None, dynamics: Dynamics | None = None
) -> tuple[Signals, State, dict[str, Tensor | None]]:
    """What `run` gives, without its graph, and the gradients of parameters and inputs by name; None: unreached."""
    parameters = dict((trial.dynamics if dynamics is None else dynamics).named_parameters())
    sources: dict[str, Tensor] = {name: p for name, p in parameters.items() if p.requires_grad and p.numel()}
    sequence, state, inputs = _as_leaves(trial, sequence, state)
    sources |= inputs
    with torch.enable_grad():
        signals, end = run(sequence, state)
        felt = [x for name, x in signals.items() if name in ("h", "z", "image") or name.startswith("kl")]
        total = functional(felt)
    found: tuple[Tensor | None, ...] = (None,) * len(sources)
    if total.requires_grad:
        found = torch.autograd.grad(total, list(sources.values()), allow_unused=True)
    signals = {name: x.detach() for name, x in signals.items()}
    return signals, None if end is None else tree.detach(end), dict(zip(sources, found, strict=True))


def _of_inputs(gradients: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    """Those of embeddings, actions and state, not of parameters."""
    return {name: x for name, x in gradients.items() if name in (EMBED, ACTION) or name.startswith("state")}


def _gradients_differ(what: str, got: dict[str, Tensor | None], want: dict[str, Tensor | None]) -> Breaches:
    """Gradients that are missing or off by more than rounding could be."""
    largest = max((scale_of(x) for x in want.values() if x is not None), default=0.0)
    for name, gradient in want.items():
        if gradient is not None and scale_of(gradient) > 1e-4 * largest:
            found = got[name]
            found = torch.zeros_like(gradient) if found is None else found
            yield from disagreement(f"gradient of {name} {what}", found, gradient, LARGEST_GRADIENT_ERROR)


def _depends_on(trial: DynamicsTrial, run: Run, state: State, path: str) -> bool:
    """Does what is observed, or imagined, depend on this leaf of the state?"""
    moved = tree.map_tree(Tensor.clone, state)
    named_leaves(moved)[path].add_(1.0)
    with torch.no_grad():
        (one, _), (other, _) = (run(trial.sequence, each) for each in (state, moved))
    return not all(torch.equal(one[name], other[name]) for name in one)


def _is_short(leaf: Tensor) -> bool:
    return leaf.is_floating_point() and leaf.dtype != torch.float32
