"""What a model that forgets holds once it is trained for the answer, beside what it held before."""

import functools

import numpy as np
import pytest
import torch

from tests.probing.conftest import Cue, both, cue, forgetful, small
from wmkit.probing import measure_probes
from wmkit.probing.oracle import copied
from wmkit.probing.readers import fingerprint

SHORT = functools.partial(cue, length=8, first=2, last=3)


def test_the_oracle_keeps_what_the_model_forgot_and_the_model_stays_as_it_was() -> None:
    model = forgetful(0)
    before = fingerprint(model)
    plan = small(probes=[Cue()], rows=["observed", "untrained", "oracle"], seeds=1, steps=100, oracle_steps=40)
    found = measure_probes(model, *both(SHORT), plan)
    assert fingerprint(model) == before
    recall = {row: found.by_axis["delay"].curve("cue_linear", row).mean for row in ("observed", "untrained", "oracle")}
    constant = found.by_axis["delay"].curve("cue_linear", "constant").mean
    for row in ("observed", "untrained"):
        assert recall[row][0] == 1
        assert recall[row][1:] == pytest.approx(constant[1:], abs=0.2)
    assert recall["oracle"].min() > 0.9
    labels = [row[0] for table in found.tables() for row in table.rows]
    assert labels == ["observed", "oracle, 40 steps", "untrained", "constant"]


def test_another_number_of_its_steps_is_another_fit_of_the_oracle_alone(tmp_path) -> None:
    plan = functools.partial(
        small, probes=[Cue()], rows=["observed", "oracle"], heads=("mlp", "linear"), seeds=1, steps=3, episodes=4
    )
    marks = []
    for options in ({}, {"oracle_steps": 2}, {"oracle_steps": 1}):
        measure_probes(forgetful(0), *both(SHORT), plan(**options), folder=tmp_path)
        marks.append(sorted(path.name[len("cue-123456-") :] for path in tmp_path.glob("parts/*/cue-*.parquet")))
    others = [f"{head}-{row}-0.parquet" for head in ("linear", "mlp") for row in ("constant", "observed")]
    assert marks[0] == sorted([*others, "mlp-oracle1-0.parquet"])  # one step in five, and by the first head alone
    assert marks[1] == marks[2] == sorted([*others, "mlp-oracle1-0.parquet", "mlp-oracle2-0.parquet"])


def test_a_copy_has_the_weights_of_the_model_and_is_another_one() -> None:
    model = forgetful(0)
    copy = copied(model, 5)
    assert fingerprint(copy) == fingerprint(model)
    with torch.no_grad():
        copy.modules[0].weight.zero_()
    assert fingerprint(copy) != fingerprint(model)


def test_episodes_are_walked_in_windows_whose_states_go_on_without_their_gradients(monkeypatch) -> None:
    monkeypatch.setattr("wmkit.probing.oracle.WINDOW", 3)
    walked = []

    def watched(reader, seed):
        copy = copied(reader, seed)
        observe = copy.observe

        def noted(image, action, seeds, state=None):
            if torch.is_grad_enabled():
                walked.append((image.shape[1], state is None or state.requires_grad, state is None))
            return observe(image, action, seeds, state)

        copy.observe = noted
        return copy

    monkeypatch.setattr("wmkit.probing.oracle.copied", watched)
    plan = small(probes=[Cue()], rows=["observed", "oracle"], seeds=1, steps=2, oracle_steps=5, episodes=8, held_out=2)
    measure_probes(forgetful(0), *both(SHORT), plan)
    first, *later = [(3, True, True), (3, False, False), (2, False, False)]
    assert walked == [first, *later, first, later[0]]


def test_weights_that_are_worse_on_episodes_apart_are_not_kept() -> None:
    """Marks that mean something else in the episodes apart: whatever is learnt is wrong there."""

    def turned(rng):
        image, steps, constants = SHORT(rng)
        constants["cue"] = np.array((int(constants["cue"]) + turned.by) % 4)
        return image, steps, constants

    training, test = both(turned)
    made = []
    for turned.by in (*[0] * 9, 1):
        made.append(training.episode(len(made)))
    training.episode = made.__getitem__
    plan = small(
        probes=[Cue()], rows=["observed", "oracle"], seeds=1, steps=1, oracle_steps=20, episodes=10, held_out=2
    )
    found = measure_probes(forgetful(0), training, test, plan).steps
    ours, oracle = (found.curve("cue_linear", row) for row in ("observed", "oracle"))
    assert oracle.mean.tolist() == ours.mean.tolist()
