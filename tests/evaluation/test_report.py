"""Columns, verdicts, and the file."""

import dataclasses
import json

import pytest
import torch

from wmkit.evaluation.errors import Errors
from wmkit.evaluation.old_predictors import COPY_LAST, GENERATION, MEAN_IMAGE, MISLED, OTHER_FRAME, RECONSTRUCTION, ROWS


def with_errors(evaluation, name, per_episode):
    return dataclasses.replace(evaluation, on_query=evaluation.on_query | {name: Errors(per_episode)})


def test_short_horizon_has_each_column_once(evaluation):
    short = dataclasses.replace(
        evaluation, on_query={name: Errors(e.per_episode[:, :3]) for name, e in evaluation.on_query.items()}
    )
    assert short.columns() == {"1-3": (1, 3), "3": (3, 3)}
    assert all(verdict.holds for verdict in short.verdicts())


def test_a_model_that_meets_every_claim(evaluation):
    assert [verdict.holds for verdict in evaluation.verdicts()] == [True] * 5
    assert evaluation.action_ratio() == 1.5
    lines = [str(verdict) for verdict in evaluation.verdicts()]
    assert "30.0% (context)" in lines[0]
    assert "60.0 against 150.0" in lines[1]
    assert "60.0 against 200.0" in lines[2]
    assert "60.0 against 100.0" in lines[3]
    assert "+50.0%" in lines[4]


@pytest.mark.parametrize(
    ("name", "first", "last", "value", "broken"),
    [
        (RECONSTRUCTION, 50, 50, 41.0, 0),  # the worst column counts
        (RECONSTRUCTION, 6, 20, 40.0, None),  # at most
        (COPY_LAST, 1, 5, 1.0, None),  # other steps do not matter
        (COPY_LAST, 6, 20, 59.0, 1),
        (OTHER_FRAME, 50, 50, 59.0, 2),
        (OTHER_FRAME, 6, 20, 1.0, None),
        (COPY_LAST, 6, 20, 60.0, 1),  # below, not at most
        (MEAN_IMAGE, 6, 20, 76.0, None),
        (GENERATION, 6, 20, 78.0, None),
        (MISLED, 6, 20, 68.9, 4),
        (MISLED, 6, 20, 69.0, None),
    ],
)
def test_each_claim_is_read_at_its_own_steps(evaluation, name, first, last, value, broken):
    errors = evaluation.on_query[name].per_episode.clone()
    errors[:, first - 1 : last] = value
    verdicts = with_errors(evaluation, name, errors).verdicts()
    if broken is None:
        assert all(verdict.holds for verdict in verdicts)
    else:
        assert not verdicts[broken].holds
        assert str(verdicts[broken]).startswith("NO")


def test_file_holds_tables_curves_and_verdicts(evaluation, tmp_path):
    evaluation.save(tmp_path / "evaluation.json")
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(saved["query_table"]) == set(ROWS)
    assert saved["query_table"][GENERATION]["6-20"] == {"mean": 60.0, "half_width": 0.0, "per_pixel_mean": 60 / 192}
    assert saved["context_table"][RECONSTRUCTION]["mean"] == 30.0
    assert len(saved["query_curves"][MISLED]["mean"]) == 50
    assert len(saved["context_curves"][RECONSTRUCTION]["half_width"]) == 5
    assert [verdict["holds"] for verdict in saved["verdicts"]] == [True] * 5
    assert (saved["episodes"], saved["context"], saved["horizon"]) == (4, 6, 50)


def test_not_a_number_fails_a_claim(evaluation):
    errors = torch.full((4, 50), float("nan"))
    assert [v.holds for v in with_errors(evaluation, GENERATION, errors).verdicts()] == [
        True,
        False,
        False,
        False,
        False,
    ]
