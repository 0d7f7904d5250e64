"""Laws 1 to 5: what the outputs of a sequence may depend on. Each law yields one sentence per breach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from wmkit import tree
from wmkit.backbones.base import Backbone
from wmkit.testing.diagnosis import described
from wmkit.testing.situations import Situation
from wmkit.testing.tolerance import Tolerance, disagreement, states_disagree
from wmkit.testing.trial import Outcome, Trial, gradient_scales, loop, scan
from wmkit.tree import State

Breaches = Iterator[str]

SHORT, LONG = 12, 100
"""Steps of the sequences that laws 2 to 5 cut and change."""


def attempt(what: str, call: Callable[..., Breaches], *arguments: Any) -> Breaches:
    """What a check finds; a crash in it is a breach that says where."""
    try:
        yield from call(*arguments)
    except Exception as error:  # a user's code may raise anything
        yield f"{what}: raised {described(error)}"


def scan_equals_step(trial: Trial, situations: list[Situation]) -> Breaches:
    """1. `scan` equals repeated `step`: outputs, last state, gradients, in every situation without resets."""
    for training in (False, True):
        yield from attempt("the same call twice", _repeatable, trial, training)
    for situation in situations:
        yield from attempt(str(situation), scan_against_step, trial, situation)


def scan_against_step(trial: Trial, situation: Situation) -> Breaches:
    """`scan` against the loop in one situation; those in train() are left out where modules draw random numbers."""
    if situation.training and trial.random_in_train:
        return
    got, want = (trial.outcome(situation, stepwise=stepwise) for stepwise in (False, True))
    if got.features.shape != want.features.shape:
        yield f"{situation}: features of shape {tuple(got.features.shape)}, expected {tuple(want.features.shape)}"
        return
    for name, features in (("scan", got.features), ("step", want.features)):
        if not bool(torch.isfinite(features).all()):
            yield f"{situation}: features of {name} are not finite"
            return
    if (got.state is None) is situation.return_state:
        yield f"{situation}: {'no state' if got.state is None else 'a state'} came back"
        return
    breaches = list(_same_outcome(trial, situation, got, want, trial.floor))
    if breaches and trial.dtype == torch.float32:  # what rounding costs is measured where it is asked for
        breaches = list(_same_outcome(trial, situation, got, want, trial.tolerance(situation, got, want)))
    yield from breaches


def _same_outcome(trial: Trial, situation: Situation, got: Outcome, want: Outcome, allowed: Tolerance) -> Breaches:
    yield from disagreement(f"{situation}: features", got.features, want.features, allowed.features)
    if situation.return_state:
        ours, theirs = trial.comparable(got.state), trial.comparable(want.state)
        yield from states_disagree(f"{situation}: last state", ours, theirs, allowed.state)
    scales = gradient_scales(want.gradients)
    for name, gradient in want.gradients.items():
        what = f"{situation}: gradient of {name}"
        yield from disagreement(what, got.gradients[name], gradient, allowed.gradients, scales[name])


def pieces_equal_whole(trial: Trial, quick: bool) -> Breaches:
    """2. Scanning in pieces equals scanning whole, wherever it is cut."""
    every = [[cut] for cut in range(1, SHORT)] + [list(range(1, SHORT))]
    long = [[8, 16, 32, 64], [5, 37, 64, 99], list(range(10, LONG, 10))]
    for training in (False, True):
        if training and trial.random_in_train:
            continue
        for start in ("none", "carried"):
            for length, cuts in ((SHORT, every[:: 3 if quick else 1]), (LONG, long[: 1 if quick else 3])):
                if quick and training and length == LONG:
                    continue  # laws 1 and 4 compare longer scans in train() with pieces
                what = f"{length} steps from {start}{' in train()' * training}"
                yield from attempt(what, _pieces, trial, what, start, length, cuts, training)


def causality(trial: Trial, quick: bool) -> Breaches:
    """3. Changing x at t changes nothing before t."""
    edges = [t for chunk in (8, 16, 32, 64) for t in (chunk - 1, chunk, chunk + 1)]
    times = {SHORT: list(range(1, SHORT)), LONG: [*edges, LONG - 1], 257: [127, 128, 129, 255, 256]}
    cases = [
        (SHORT, Situation(SHORT, start="carried")),
        (SHORT, Situation(SHORT, start="carried", resets="middle")),
        (LONG, Situation(LONG, return_state=False)),
        (LONG, Situation(LONG, return_state=False, training=True)),
        (LONG, Situation(LONG, start="mixed", resets="chunks")),
        (257, Situation(257, return_state=False, training=True)),
    ]
    for length, situation in [cases[1], cases[3]] if quick else cases:
        yield from attempt(str(situation), _blind, trial, situation, times[length])


def resets(trial: Trial, situations: list[Situation], quick: bool) -> Breaches:
    """4. `is_first` at t makes everything from t on equal a fresh start, and nothing from before is left."""
    for situation in situations:
        yield from attempt(str(situation), scan_against_step, trial, situation)
    for training, return_state in ((False, True), (True, False), (False, False), (True, True))[: 2 if quick else 4]:
        what = f"return_state={return_state}{', in train()' * training}"
        yield from attempt(what, _forgets, trial, what, training, return_state)


def rows_apart(trial: Trial, quick: bool) -> Breaches:
    """5. Rows do not see their neighbours; a row alone is the same row."""
    yield from attempt("initial_state of several rows", _initial_rows, trial)
    yield from attempt("other numbers of rows", _row_counts, trial)
    cases = [
        Situation(16, 3, "mixed", "adjacent"),
        Situation(64, 33, "none", "none", return_state=False, training=True),
        Situation(16, 16, "carried"),
        Situation(16, 33, "none", "chunks"),
        Situation(2, 3, "initial", training=True),
    ]
    for situation in cases[: 3 if quick else 5]:
        if situation.training and trial.random_in_train:
            continue
        for run in (scan,) if quick and situation.length > 16 else (scan, loop):
            yield from attempt(f"{situation}, {run.__name__}", _row_alone, trial, situation, run)
            yield from attempt(f"{situation}, {run.__name__}", _row_changed, trial, situation, run)


def _repeatable(trial: Trial, training: bool) -> Breaches:
    """Two equal calls give the same; in train() only where nothing is drawn."""
    if training and trial.random_in_train:
        return
    module, x = trial.module(training=training), trial.inputs(0, 3, SHORT)
    with torch.no_grad():
        for start in ("none", "carried"):
            state = trial.start(start, 3, training=training)
            for run, steps in ((scan, SHORT), (loop, 4)):
                first, again = (run(module, x[:, :steps], state)[0] for _ in range(2))
                what = f"the same {run.__name__} twice from {start}{' in train()' if training else ' in eval()'}"
                yield from disagreement(what, again, first, trial.floor.features)
        state = trial.start("carried", 3, training=training)
        alone = module.step(x[:, 0], state)[0]
        with module.prepared():
            inside = module.step(x[:, 0], state)[0]
        yield from disagreement("step inside `prepared` against outside of it", inside, alone, trial.floor.features)


@torch.no_grad()
def _pieces(trial: Trial, what: str, start: Any, length: int, cuts: list[list[int]], training: bool) -> Breaches:
    module, x = trial.module(training=training), trial.inputs(0, 3, length)
    state = trial.start(start, 3, training=training)
    situation = Situation(length, 3, start, training=training)
    with module.prepared():
        whole, last = scan(module, x, state)
        results = [(cut, *in_pieces(module, x, state, cut)) for cut in cuts]

    def compared(allowed: Tolerance) -> Breaches:
        for cut, got, end in results:
            where = f"{what}, cut {'before every step' if len(cut) == length - 1 else f'at {cut}'}"
            yield from disagreement(f"{where}: features", got, whole, 2 * allowed.features)
            ours, theirs = trial.comparable(end), trial.comparable(last)
            yield from states_disagree(f"{where}: last state", ours, theirs, 2 * allowed.state)

    breaches = list(compared(trial.floor))
    if breaches and trial.dtype == torch.float32:
        stepped = trial.outcome(situation, stepwise=True)
        breaches = list(compared(trial.tolerance(situation, Outcome(whole, last, {}), stepped)))
    yield from breaches


def in_pieces(module: Backbone, x: Tensor, state: State | None, cuts: list[int]) -> tuple[Tensor, State]:
    """`scan` over x cut before the steps `cuts`, the state carried from piece to piece."""
    features = []
    for piece in x.tensor_split(cuts, dim=1):
        feature, state = scan(module, piece, state)
        features.append(feature)
    return torch.cat(features, dim=1), state


@torch.no_grad()
def _blind(trial: Trial, situation: Situation, times: list[int]) -> Breaches:
    """Other inputs from t on change no features before t, under the same random numbers."""
    module = trial.module(training=situation.training)
    x, other = (trial.inputs(number, situation.rows, situation.length) for number in (0, 3))
    state = trial.start(situation.start, situation.rows, training=situation.training)
    is_first = situation.is_first(trial.device)

    def features(inputs: Tensor) -> Tensor:
        torch.manual_seed(trial.seed)
        return scan(module, inputs, state, is_first, situation.return_state)[0]

    with module.prepared():
        plain, *results = (features(torch.cat([x[:, :t], other[:, t:]], dim=1)) for t in [situation.length, *times])
    for t, changed in zip(times, results, strict=True):
        what = f"{situation}: features before t = {t}, with other inputs from there on"
        yield from disagreement(what, changed[:, :t], plain[:, :t], trial.floor.features, float(plain.abs().max()))


@torch.no_grad()
def _forgets(trial: Trial, what: str, training: bool, return_state: bool) -> Breaches:
    """NaN in the inputs before a reset, and in a state that is reset at once or later, leaves no trace."""
    if training and trial.random_in_train:
        return
    module = trial.module(training=training)
    rows, length, t = 3, 40, 19
    x = trial.inputs(0, rows, length)
    poisoned = x.clone()
    poisoned[:2, t - 3] = float("nan")
    is_first = torch.zeros(rows, length, dtype=torch.bool, device=trial.device)
    is_first[:2, t] = True
    plain, last = scan(module, x, None, is_first, return_state)
    got, end = scan(module, poisoned, None, is_first, return_state)
    allowed = trial.floor
    where = f"NaN in the inputs three steps before a reset at t = {t}, {what}"
    yield from disagreement(f"{where}: features from the reset on", got[:, t:], plain[:, t:], allowed.features)
    if return_state:
        yield from states_disagree(f"{where}: last state", trial.comparable(end), trial.comparable(last), allowed.state)
    is_first = torch.zeros_like(is_first)
    t = 27
    is_first[0, 0] = is_first[1, t] = True
    state = trial.start("carried", rows, training=training)
    bad = tree.map_tree(lambda s: torch.full_like(s, float("nan")) if s.is_floating_point() else s, state)
    bad = tree.where(torch.tensor([True, True, False], device=trial.device), bad, state)
    plain, last = scan(module, x, state, is_first, return_state)
    got, end = scan(module, x, bad, is_first, return_state)
    where = f"NaN in a state that a reset replaces, {what}"
    yield from disagreement(f"{where} at t = 0: features", got[::2], plain[::2], allowed.features)
    yield from disagreement(f"{where} at t = {t}: features from then on", got[1, t:], plain[1, t:], allowed.features)
    if return_state:
        yield from states_disagree(f"{where}: last state", trial.comparable(end), trial.comparable(last), allowed.state)


@torch.no_grad()
def _initial_rows(trial: Trial) -> Breaches:
    """initial_state(n) is initial_state(1), n times."""
    module = trial.module()
    alone = module.initial_state(1)
    for rows in (2, 3, 17):
        want = tree.repeat(alone, rows)
        what = f"initial_state({rows}) against initial_state(1) in every row"
        yield from states_disagree(what, module.initial_state(rows), want, trial.floor.features)


@torch.no_grad()
def _row_counts(trial: Trial) -> Breaches:
    """The first n of 64 rows are the same rows, whatever n is: kernels take other paths at powers of two."""
    module, x = trial.module(), trial.inputs(0, 64, SHORT)
    state = trial.start("carried", 64)
    counts = (64, 2, 4, 5, 8, 32)
    with module.prepared():
        whole, *results = (scan(module, x[:rows], tree.index(state, slice(rows)))[0] for rows in counts)
    for rows, got in zip(counts[1:], results, strict=True):
        what = f"scan of the first {rows} of 64 rows against the same rows in the batch: features"
        yield from disagreement(what, got, whole[:rows], 4 * trial.floor.features)


@torch.no_grad()
def _row_alone(trial: Trial, situation: Situation, run: Callable[..., tuple[Tensor, State | None]]) -> Breaches:
    """A row of the batch against the same row in a call of its own."""
    module, x = trial.module(training=situation.training), trial.inputs(0, situation.rows, situation.length)
    state = trial.start(situation.start, situation.rows, training=situation.training)
    is_first, allowed = situation.is_first(trial.device), trial.floor
    with module.prepared():
        whole, last = run(module, x, state, is_first, situation.return_state)
        alone = {}
        for row in (0, situation.rows // 2, situation.rows - 1):
            rows = slice(row, row + 1)
            own = None if state is None else tree.map_tree(Tensor.clone, tree.index(state, rows))
            marks = None if is_first is None else is_first[rows]
            alone[row] = run(module, x[rows], own, marks, situation.return_state)
    for row, (got, end) in alone.items():
        rows = slice(row, row + 1)
        what = f"{situation}, {run.__name__}: row {row} alone against the same row in the batch"
        yield from disagreement(f"{what}: features", got, whole[rows], 4 * allowed.features)
        if last is not None:
            ours, theirs = trial.comparable(end), trial.comparable(tree.index(last, rows))
            yield from states_disagree(f"{what}: last state", ours, theirs, 4 * allowed.state)


@torch.no_grad()
def _row_changed(trial: Trial, situation: Situation, run: Callable[..., tuple[Tensor, State | None]]) -> Breaches:
    """Other inputs, another state and other resets in one row change nothing in the others."""
    module, rows = trial.module(training=situation.training), situation.rows
    x, other = (trial.inputs(number, rows, situation.length) for number in (0, 3))
    state = trial.start(situation.start, rows, training=situation.training)
    is_first, allowed = situation.is_first(trial.device), trial.floor
    results = {}
    with module.prepared():
        plain, last = run(module, x, state, is_first, situation.return_state)
        after = None if state is None else run(module, other, state)[1]
        for row in (0, rows - 1):
            chosen = torch.arange(rows, device=trial.device) == row
            changed_state = None if state is None else tree.where(chosen, after, state)
            marks = None if is_first is None else is_first ^ chosen[:, None]
            inputs = torch.where(chosen[:, None, None], other, x)
            results[row] = chosen, *run(module, inputs, changed_state, marks, situation.return_state)
    for row, (chosen, got, end) in results.items():
        what = f"{situation}, {run.__name__}: other rows after row {row} changed"
        yield from disagreement(f"{what}: features", got[~chosen], plain[~chosen], allowed.features)
        if last is not None:
            ours, theirs = (trial.comparable(tree.index(one, ~chosen)) for one in (end, last))
            yield from states_disagree(f"{what}: last state", ours, theirs, allowed.state)
