"""The table of measurements: what it holds, what can be asked of it, and its files."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from wmkit.evaluation.claims import Beats
from wmkit.evaluation.predictors import BEST_OF_N, COPY_LAST, IMAGINED, MEAN_IMAGE, OBSERVED
from wmkit.evaluation.record import RECORDS, SCHEMA, Measurements, Metric, frame_of

ERROR = Metric("error", "grey levels", "lower", claims=(Beats(IMAGINED, COPY_LAST, (2, 3)),))
RIGHT = Metric("right", "share", "higher", binary=True, headline=True)


@pytest.fixture
def measured() -> Measurements:
    """Two episodes, context 3, horizon 4; `right` of five whole episodes."""
    errors = np.array([[0.0, 4.0, 99.0, 1.0], [2.0, 6.0, 99.0, 1.0]])
    frame = pl.concat(
        [
            frame_of("error", IMAGINED, errors, 1),
            frame_of("error", COPY_LAST, errors + 1, 1),
            frame_of("error", OBSERVED, np.full((2, 6), 7.0), -1),
            frame_of("right", IMAGINED, np.array([[1.0], [1.0], [0.0], [1.0], [1.0]]), None),
        ]
    )
    about = {"run": "runs/a", "world": "a_world", "seed": 3, "checkpoint": "step-5"}
    return Measurements(frame, {"error": ERROR, "right": RIGHT}, 3, 4, about).judged()


def test_table_is_long_and_says_null_for_whole_episodes(measured):
    assert dict(measured.frame.schema) == SCHEMA
    row = measured.frame.filter(measure="error", predictor=OBSERVED, episode=1, step=-1)
    assert row["value"].to_list() == [7.0]
    assert measured.frame.filter(measure="right")["step"].null_count() == 5


@pytest.mark.reported("friction", "", "`Measurements` at a prompt or in a notebook", "a small table, no raw arrays")
def test_at_a_prompt_measurements_are_a_small_table(measured):
    assert repr(measured).splitlines() == [
        "Measurements of 5 episodes, context 3 | query 4",
        "  error: error (grey levels, lower is better)",
        f"    observed         {measured.estimate('error', OBSERVED)}",
        f"    imagined         {measured.estimate('error', IMAGINED)}",
        f"    copy_last        {measured.estimate('error', COPY_LAST)}",
        "  right: right (share, higher is better)",
        "    imagined         80.0% [37.6%, 96.4%]",
        "  yes  error: imagined is better than last context frame at 2-3: 52 against 53",
    ]


def test_values_are_episodes_by_query_steps(measured):
    assert measured.measures == ["error", "right"]
    assert measured.predictors("error") == [OBSERVED, IMAGINED, COPY_LAST]
    assert measured.values("error", IMAGINED).tolist() == [[0, 4, 99, 1], [2, 6, 99, 1]]
    assert measured.values("error", OBSERVED, (-1, 0)).shape == (2, 2)
    assert measured.values("right", IMAGINED).shape == (5, 1)
    assert measured.episodes == 5


def test_interval_over_a_range_is_over_episodes_not_over_steps(measured):
    estimate = measured.estimate("error", IMAGINED, (1, 2))
    assert estimate.mean == 3.0
    assert estimate.half_width == pytest.approx(1.96)  # episode means 2 and 4
    assert measured.estimate("error", IMAGINED, (3, 3)).mean == 99.0


def test_steps_of_each_episode_that_count_weigh_as_much_as_others_of_another():
    values = np.array([[1.0, 3.0, 50.0], [8.0, 90.0, 90.0], [0.0, 0.0, 0.0]])
    counts = np.array([[True, True, False], [True, False, False], [False, False, False]])
    found = Measurements(frame_of("error", IMAGINED, values, 1, counts), {"error": ERROR}, 3, 3)
    estimate = found.estimate("error", IMAGINED)
    assert (estimate.mean, estimate.episodes) == (5.0, 2)
    assert found.curve("error", IMAGINED).mean.tolist()[:2] == [4.5, 3.0]
    assert np.isnan(found.curve("error", IMAGINED).mean[2])
    assert np.isnan(found.estimate("error", IMAGINED, (3, 3)).mean)


def test_a_value_that_is_no_number_is_not_one_that_does_not_count():
    values = np.array([[1.0, np.nan], [1.0, 1.0]])
    found = Measurements(frame_of("error", IMAGINED, values, 1), {"error": ERROR}, 3, 2)
    assert np.isnan(found.estimate("error", IMAGINED).mean)
    assert np.isnan(found.curve("error", IMAGINED).mean[1])


def test_shares_of_episodes_have_a_binomial_interval(measured):
    estimate = measured.estimate("right", IMAGINED)
    assert (estimate.mean, estimate.episodes) == (0.8, 5)
    assert (estimate.low, estimate.high) == pytest.approx((0.3755, 0.9638), abs=1e-4)
    assert RIGHT.text(estimate) == "80.0% [37.6%, 96.4%]"


def test_columns_are_the_ranges_cut_to_the_horizon_each_once_after_the_context(measured):
    assert measured.columns("error") == {"context": (-1, 0), "1-4": (1, 4), "4": (4, 4)}
    assert measured.columns("right") == {"episode": None}
    parts = Metric("error", "", "lower", ranges=4)
    found = Measurements(frame_of("error", MEAN_IMAGE, np.zeros((1, 10)), 1), {"error": parts}, 3, 10)
    assert list(found.columns("error")) == ["1-2", "3-5", "6-8", "9-10", "1-10"]


def test_files_hold_everything_and_are_read_without_the_measures(measured, tmp_path):
    measured.save(tmp_path)
    again = Measurements.load(tmp_path)
    assert again.frame.equals(measured.frame)
    assert (again.metrics, again.context, again.horizon) == (measured.metrics, 3, 4)
    assert (again.about, again.verdicts) == (measured.about, measured.verdicts)
    assert again.summary() == measured.summary()
    columns = pl.read_parquet(tmp_path / RECORDS).columns
    assert columns == [*SCHEMA, "run", "world", "seed", "checkpoint"]
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    entry = saved["measures"]["error"]["predictors"][IMAGINED]
    assert entry["ranges"]["1-4"]["mean"] == 26.5
    assert entry["curve"]["mean"] == [1.0, 5.0, 99.0, 1.0]
    assert saved["measures"]["right"]["headline"] is True
    assert saved["verdicts"][0]["holds"] is True


def test_what_is_measured_later_joins_what_there_is_of_the_same_checkpoint_and_steps(measured, tmp_path):
    measured.save(tmp_path)
    metrics = {"error": ERROR, "distance": Metric("distance", "cells", "lower")}
    rows = [frame_of(name, IMAGINED, np.zeros((2, 4)), 1) for name in metrics]
    later = Measurements(pl.concat(rows), metrics, 3, 4, measured.about)
    both = later.with_older(tmp_path)
    assert both.measures == ["error", "distance", "right"]
    assert both.frame.filter(measure="error").equals(rows[0])  # the newer one
    assert both.frame.filter(measure="right").equals(measured.frame.filter(measure="right"))
    assert both.verdicts == ()  # that of the older error went with it
    for other in (
        dataclasses.replace(later, horizon=5),
        dataclasses.replace(later, about={**later.about, "checkpoint": "step-6"}),
    ):
        assert other.with_older(tmp_path) is other
    assert later.with_older(tmp_path / "nothing") is later


def test_another_number_of_samples_parts_with_best_of_n_alone(measured, tmp_path):
    best = frame_of("error", BEST_OF_N, np.zeros((2, 4)), 1)
    older = dataclasses.replace(
        measured, frame=pl.concat([measured.frame, best]), about={**measured.about, "samples": 5}
    )
    older.save(tmp_path)
    metric = Metric("distance", "cells", "lower")
    frame = frame_of("distance", IMAGINED, np.zeros((2, 4)), 1)
    later = Measurements(frame, {"distance": metric}, 3, 4, {**measured.about, "samples": 1})
    both = later.with_older(tmp_path)
    assert both.frame.filter(measure="error").equals(measured.frame.filter(measure="error"))
    assert both.replaces(tmp_path) == "Records of an earlier evaluation are replaced (samples 5, now 1): error"
    same = dataclasses.replace(later, about=older.about)
    assert same.with_older(tmp_path).predictors("error") == older.predictors("error")


def test_it_is_said_which_older_records_are_replaced(measured, tmp_path):
    assert measured.replaces(tmp_path) == ""
    measured.save(tmp_path)
    assert measured.replaces(tmp_path) == ""
    other = dataclasses.replace(measured, about={**measured.about, "checkpoint": "step-6"}, horizon=3)
    changed = dataclasses.replace(other, frame=measured.frame.with_columns(pl.col("value") + 1))
    assert changed.replaces(tmp_path) == (
        "Records of an earlier evaluation are replaced (horizon 4, now 3, checkpoint step-5, now step-6): error, right"
    )
    fewer = dataclasses.replace(measured, frame=measured.frame.filter(measure="error"))
    assert fewer.replaces(tmp_path) == "Records of an earlier evaluation are replaced: right"


def test_a_folder_without_measurements_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="wmkit evaluate"):
        Measurements.load(tmp_path)
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(ValueError, match="of an older wmkit"):
        Measurements.load(tmp_path)


@pytest.mark.reported(
    "numbers",
    "",
    "a table of predictions that are NaN or infinite",
    "`not finite`; `-` only where nothing was measured",
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_said_in_tables_and_null_in_the_summary(measured, tmp_path, bad):
    frame = pl.concat([measured.frame, frame_of("error", MEAN_IMAGE, np.array([[bad] * 4, [1.0] * 4]), 1)])
    changed = dataclasses.replace(measured, frame=frame)
    assert ERROR.text(changed.estimate("error", MEAN_IMAGE)) == "not finite"
    assert ERROR.text(changed.estimate("error", MEAN_IMAGE, (-1, 0))) == "-"
    changed.save(tmp_path)
    saved = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    entry = saved["measures"]["error"]["predictors"][MEAN_IMAGE]
    assert (entry["mean"], entry["curve"]["mean"]) == (None, [None] * 4)
    assert Measurements.load(tmp_path).summary() == changed.summary()


@pytest.mark.reported(
    "names",
    "ray-project/ray#15367",
    "records in a folder with `[ ]`, `*` or letters that are no UTF-8",
    "are written and read there",
)
@pytest.mark.parametrize("name", ["run[9x9]", "run*", "run\udcff"])
def test_records_in_a_folder_of_any_name_come_back(name, tmp_path):
    frame = frame_of("error", IMAGINED, np.ones((2, 3)), 1)
    measured = Measurements(frame, {"error": Metric("error", "units", "lower")}, 2, 3)
    (tmp_path / name).mkdir()
    measured.save(tmp_path / name)
    assert Measurements.load(tmp_path / name).frame.equals(measured.frame)
