"""Laws 1 to 5: what the outputs of a sequence may depend on. Each law yields one sentence per breach."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from wmkit import tree
from wmkit.testing.tolerance import Tolerance, disagreement, disagreements
from wmkit.testing.trial import Outcome, Trial, gradient_scales, loop, scan
from wmkit.tree import State

Breaches = Iterator[str]


def scan_equals_step(trial: Trial) -> Breaches:
    """1. `scan` equals repeated `step`: outputs, last state, gradients."""
    yield from _shapes(trial)
    for start, state in trial.states:
        want = trial.outcome(loop, state)
        yield from _same_outcome(trial, f"scan against step {start}", trial.outcome(scan, state), want)
        with torch.no_grad():
            again = loop(trial.backbone, trial.x, state)[0]
        repeated = f"the same call twice in eval() {start}"
        yield from disagreement(repeated, again, want.features, Tolerance.floor(trial.dtype).features)


def pieces_equal_whole(trial: Trial) -> Breaches:
    """2. Scanning in pieces equals scanning whole, wherever it is cut."""
    cuts = [[cut] for cut in range(1, trial.length)] + [list(range(1, trial.length))]
    with torch.no_grad():
        for start, state in trial.states:
            features, last = scan(trial.backbone, trial.x, state)
            for cut in cuts:
                got, end = in_pieces(trial, trial.x, state, cut)
                where = f"{start}, cut {'before every step' if len(cut) > 1 else f'at {cut[0]}'}"
                yield from disagreement(f"features {where}", got, features, trial.tolerance.features)
                yield from _same_state(trial, f"last state {where}", end, last)


def causality(trial: Trial) -> Breaches:
    """3. Changing x at t changes nothing before t."""
    with torch.no_grad():
        for how, is_first in (("", None), (" with resets", trial.resets)):
            plain = scan(trial.backbone, trial.x, trial.carried, is_first)[0]
            for t in range(1, trial.length):
                x = trial.x.clone()
                x[:, t:] = trial.other[:, t:]
                changed = scan(trial.backbone, x, trial.carried, is_first)[0]
                what = f"features before t = {t}, with other inputs from there on{how}"
                scale = float(plain.abs().max())
                yield from disagreement(what, changed[:, :t], plain[:, :t], trial.tolerance.features, scale)


def resets(trial: Trial) -> Breaches:
    """4. `is_first` at t makes everything from t on equal a fresh start."""
    for t in sorted({0, trial.length // 2, trial.length - 1}):
        yield from _reset_at(trial, t)
    everywhere = torch.ones_like(trial.resets)
    for name, is_first in (("rows reset at different steps", trial.resets), ("a reset at every step", everywhere)):
        want = trial.outcome(functools.partial(loop, is_first=is_first), trial.carried)
        got = trial.outcome(functools.partial(scan, is_first=is_first), trial.carried)
        yield from _same_outcome(trial, f"{name}, scan against step", got, want)


def rows_apart(trial: Trial) -> Breaches:
    """5. Rows do not see their neighbours, neither those before them nor those behind."""
    for row in (0, trial.batch_size - 1):
        yield from _row_apart(trial, row)


def _row_apart(trial: Trial, row: int) -> Breaches:
    """Other inputs, another state and other resets in one row change nothing in the others."""
    chosen = torch.arange(trial.batch_size, device=trial.device) == row
    others = ~chosen
    x = torch.where(chosen[:, None, None], trial.other, trial.x)
    with torch.no_grad():
        after = scan(trial.backbone, trial.other, trial.carried)[1]
        state = tree.where(chosen, after, trial.carried)
        is_first = trial.resets ^ chosen[:, None]
        for name, run, first, new_first in (
            ("step", loop, None, None),
            ("scan", scan, None, None),
            ("scan with resets", scan, trial.resets, is_first),
        ):
            plain, last = run(trial.backbone, trial.x, trial.carried, first)
            changed, end = run(trial.backbone, x, state, new_first)
            what = f"{name}: features of other rows after row {row} changed"
            yield from disagreement(what, changed[others], plain[others], trial.tolerance.features)
            kept, want = tree.index(end, others), tree.index(last, others)
            yield from _same_state(trial, f"{name}: last state of other rows after row {row} changed", kept, want)


def in_pieces(trial: Trial, x: Tensor, state: State | None, cuts: list[int]) -> tuple[Tensor, State]:
    """`scan` over x cut before the steps `cuts`, the state carried from piece to piece."""
    features = []
    for piece in x.tensor_split(cuts, dim=1):
        feature, state = scan(trial.backbone, piece, state)
        features.append(feature)
    return torch.cat(features, dim=1), state


def _shapes(trial: Trial) -> Breaches:
    """Widths are as announced, and `return_state=False` changes nothing but the state."""
    rows, steps, width = trial.batch_size, trial.length, trial.backbone.feature_dim
    with torch.no_grad():
        whole, _ = trial.backbone.scan(trial.x)
        stateless, nothing = trial.backbone.scan(trial.x, return_state=False)
        one, _ = trial.backbone.step(trial.x[:, 0], trial.carried)
    for name, got, want in (("scan", whole, (rows, steps, width)), ("step", one, (rows, width))):
        if got.shape != want:
            yield f"{name}: features of shape {tuple(got.shape)}, expected {want} (feature_dim = {width})"
    yield from disagreement("features with return_state=False", stateless, whole, trial.tolerance.features)
    if nothing is not None:
        yield "return_state=False returned a state, expected None"


def _reset_at(trial: Trial, t: int) -> Breaches:
    """All rows reset at t: before it nothing changes, from it on all is as in a call that begins there."""
    is_first = torch.zeros_like(trial.resets)
    is_first[:, t] = True
    allowed = trial.tolerance.features
    with torch.no_grad():
        got, end = scan(trial.backbone, trial.x, trial.carried, is_first)
        fresh, last = scan(trial.backbone, trial.x[:, t:], None)
        past = scan(trial.backbone, trial.x, trial.carried)[0][:, :t]
    yield from disagreement(f"features from a reset at t = {t} on", got[:, t:], fresh, allowed)
    yield from disagreement(f"features before a reset at t = {t}", got[:, :t], past, allowed)
    yield from _same_state(trial, f"last state after a reset at t = {t}", end, last)


def _same_outcome(trial: Trial, what: str, got: Outcome, want: Outcome) -> Breaches:
    yield from disagreement(f"{what}: features", got.features, want.features, trial.tolerance.features)
    yield from disagreements(f"{what}: last state", got.state, want.state, trial.tolerance.state)
    scales = gradient_scales(want.gradients)
    for name, gradient in want.gradients.items():
        label = f"{what}: gradient of {name}"
        yield from disagreement(label, got.gradients[name], gradient, trial.tolerance.gradients, scales[name])


def _same_state(trial: Trial, what: str, got: State, want: State) -> Breaches:
    yield from disagreements(what, tree.leaves(got), tree.leaves(want), trial.tolerance.state)
