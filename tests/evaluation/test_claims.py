"""Each claim is read at its own steps."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from wmkit.evaluation.claims import Beats, Costs, Reaches, ShareOf
from wmkit.evaluation.predictors import COPY_LAST, IMAGINED, MEAN_IMAGE, OBSERVED, SHUFFLED_ACTIONS
from wmkit.evaluation.record import Measurements, Metric, Verdict, frame_of

CLAIMS = (
    ShareOf(OBSERVED, MEAN_IMAGE, 0.4),
    Beats(IMAGINED, COPY_LAST, (6, 20)),
    Costs(SHUFFLED_ACTIONS, IMAGINED, 1.15, (6, 20)),
)
LEVELS = {OBSERVED: 30.0, IMAGINED: 60.0, SHUFFLED_ACTIONS: 90.0, MEAN_IMAGE: 100.0, COPY_LAST: 150.0}


def verdicts(changed=None, first=1, last=50, value=0.0):
    parts = []
    for name, level in LEVELS.items():
        values = np.full((4, 50), level)
        if name == changed:
            values[:, first - 1 : last] = value
        parts.append(frame_of("error", name, values, 1))
    metric = Metric("error", "", "lower", claims=CLAIMS)
    return Measurements(pl.concat(parts), {"error": metric}, 6, 50).judged().verdicts


def test_a_model_that_meets_every_claim():
    lines = [str(verdict) for verdict in verdicts()]
    assert all(line.startswith("yes") for line in lines)
    assert "30.0% (6-20)" in lines[0]
    assert "60 against 150" in lines[1]
    assert "+50.0%" in lines[2]


@pytest.mark.parametrize(
    ("name", "first", "last", "value", "broken"),
    [
        (OBSERVED, 50, 50, 41.0, 0),  # the worst column counts
        (OBSERVED, 6, 20, 40.0, None),  # at most
        (COPY_LAST, 1, 5, 1.0, None),  # other steps do not matter
        (COPY_LAST, 6, 20, 59.0, 1),
        (COPY_LAST, 6, 20, 60.0, 1),  # below, not at most
        (IMAGINED, 6, 20, 78.0, None),
        (SHUFFLED_ACTIONS, 6, 20, 68.9, 2),
        (SHUFFLED_ACTIONS, 6, 20, 69.1, None),
        (IMAGINED, 6, 20, float("nan"), 1),  # not a number fails a claim
    ],
)
def test_each_claim_is_read_at_its_own_steps(name, first, last, value, broken):
    found = verdicts(name, first, last, value)
    if broken is None:
        assert all(verdict.holds for verdict in found)
    else:
        assert not found[broken].holds
        assert str(found[broken]).startswith("NO")


def similarity(claim, imagined, shuffled):
    metric = Metric("similarity", "", "higher", claims=(claim,))
    parts = {IMAGINED: imagined, SHUFFLED_ACTIONS: shuffled}
    frame = pl.concat([frame_of("similarity", name, np.full((4, 50), x), 1) for name, x in parts.items()])
    return Measurements(frame, {"similarity": metric}, 6, 50).judged().verdicts[0]


def test_where_higher_is_better_a_handicap_costs_when_it_lowers_the_value():
    claim = Costs(SHUFFLED_ACTIONS, IMAGINED, 1.15, (6, 20))
    assert similarity(claim, 0.9, 0.7).holds
    assert not similarity(claim, 0.9, 0.8).holds
    assert not similarity(claim, 0.7, 0.9).holds
    assert "is at least 15% above" in similarity(claim, 0.9, 0.7).claim
    assert similarity(claim, 0.9, 0.6).values == "+50.0%"


def test_a_share_is_refused_where_higher_is_better():
    with pytest.raises(ValueError, match="of similarity higher is: claim Beats or Reaches"):
        similarity(ShareOf(IMAGINED, SHUFFLED_ACTIONS, 0.4), 0.9, 0.6)


@pytest.mark.parametrize(("right", "surely", "solved"), [(8, False, False), (19, True, True), (20, True, True)])
def test_shares_are_compared_by_their_intervals(right, surely, solved):
    claims = (Beats(IMAGINED, "majority", surely=True), Reaches(IMAGINED, 0.95), Beats("nobody", "majority"))
    metric = Metric("right", "share", "higher", binary=True, claims=claims)
    outcomes = (np.arange(20) < right).astype(float)[:, None]
    majority = (np.arange(20) % 2).astype(float)[:, None]
    frame = pl.concat([frame_of("right", IMAGINED, outcomes, None), frame_of("right", "majority", majority, None)])
    found = Measurements(frame, {"right": metric}, 6, 50).judged().verdicts
    assert [verdict.holds for verdict in found] == [surely, solved]  # who was not measured is not judged
    assert "against 50.0%" in found[0].values


@pytest.mark.reported(
    "friction",
    "",
    "the evaluation of a run of a few steps",
    "`too few steps to judge (2)` beside a claim that does not hold yet, not a red NO",
)
def test_a_claim_that_does_not_hold_is_no_verdict_on_a_model_of_a_few_steps():
    kept, broken = Verdict("error", "better", True, "1 against 2"), Verdict("error", "better", False, "2 against 1")
    early = [str(dataclasses.replace(verdict, early=12)) for verdict in (kept, broken)]
    assert early == ["yes  better: 1 against 2", "?    better: 2 against 1; too few steps to judge (12)"]
    assert str(broken) == "NO   better: 2 against 1"


@pytest.mark.parametrize(("episodes", "judged"), [(1, 0), (2, 1)])
def test_what_is_to_be_sure_is_not_judged_by_one_episode(episodes, judged):
    parts = [
        frame_of("error", name, np.full((episodes, 5), value), 1) for name, value in ((IMAGINED, 1), (COPY_LAST, 2))
    ]
    metric = Metric("error", "", "lower", claims=(Beats(IMAGINED, COPY_LAST, surely=True),))
    assert len(Measurements(pl.concat(parts), {"error": metric}, 6, 5).judged().verdicts) == judged
