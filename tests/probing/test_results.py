"""Intervals over seeds and episodes, and the effective horizon."""

import numpy as np
import polars as pl
import pytest

from wmkit.evaluation.record import Metric
from wmkit.probing.results import Above, ProbeMeasurements, effective_horizon


def measurements(values: dict[str, np.ndarray], horizon: int) -> ProbeMeasurements:
    """Of values (R, N, T) by row: steps from 0 on."""
    rows = [
        {"measure": "m", "predictor": row, "episode": n, "step": t, "value": float(x), "probe_seed": r}
        for row, array in values.items()
        for (r, n, t), x in np.ndenumerate(array)
        if not np.isnan(x)
    ]
    frame = pl.DataFrame(rows).cast(dict(ProbeMeasurements.schema))
    return ProbeMeasurements(frame.select(*ProbeMeasurements.schema), {"m": Metric("m", "share", "higher")}, 0, horizon)


def test_an_interval_has_both_the_spread_of_seeds_and_that_of_episodes() -> None:
    rng = np.random.default_rng(0)
    seeds, episodes = rng.normal(0, 3, (4, 1, 1)), rng.normal(0, 1, (1, 50, 1))
    both = measurements({"observed": seeds + episodes + np.zeros((4, 50, 2))}, 2).estimate("m", "observed")
    one = measurements({"observed": episodes + np.zeros((4, 50, 2))}, 2).estimate("m", "observed")
    assert one.half_width == pytest.approx(1.96 * episodes.std() / np.sqrt(50), rel=0.15)
    assert both.half_width > 3 * one.half_width
    assert both.mean == pytest.approx(float((seeds + episodes).mean()))


def test_steps_where_nothing_counts_and_episodes_without_a_value_are_left_out() -> None:
    values = np.array([[[1.0, np.nan, 3.0], [np.nan] * 3, [5.0, np.nan, np.nan]]])
    found = measurements({"observed": values}, 3)
    estimate = found.estimate("m", "observed", (0, 2))
    assert (estimate.mean, estimate.episodes) == (3.5, 2)
    curve = found.curve("m", "observed")
    assert curve.steps.tolist() == [0, 2]
    assert curve.mean.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("recall", "expected"),
    [([1, 1, 1, 0.5, 0.5], 2.5), ([1, 1, 0.7, 0.7, 0.7], 1 + 0.25 / 0.3), ([1] * 5, np.inf), ([0.5] * 5, np.nan)],
)
def test_the_effective_horizon_is_where_half_of_the_advantage_is_lost(recall, expected) -> None:
    ours = np.broadcast_to(np.array(recall, float), (2, 3, 5))
    found = measurements({"observed": ours, "constant": np.full((2, 3, 5), 0.5)}, 5)
    horizon = effective_horizon(found, "m")
    assert horizon.delay == pytest.approx(expected, nan_ok=True)
    assert (horizon.low, horizon.high) == pytest.approx((horizon.delay, horizon.delay), nan_ok=True)
    assert str(horizon) == {2.5: "2 [2, 2]", np.inf: "> 4 [> 4, > 4]"}.get(
        expected, "-" if np.isnan(expected) else "2 [2, 2]"
    )


def test_what_the_present_frame_tells_of_things_out_of_view_is_no_memory_of_them() -> None:
    shape = 2, 3, 5
    scene, bottom = np.broadcast_to([1, 0.8, 0.8, 0.8, 0.8], shape), np.full(shape, 0.5)
    kept = np.broadcast_to([1, 0.95, 0.95, 0.8, 0.8], shape)
    for ours, beside, expected in (
        (scene, {}, np.inf),  # nobody looked
        (scene, {"no_memory": scene}, 0.5),
        (kept, {"no_memory": scene}, 2 + 0.25 / 0.75),
        (kept, {"no_memory": bottom}, np.inf),
        (np.minimum(kept, 0.95), {"no_memory": np.full(shape, 0.8)}, 2 + (0.75 - 0.45) / 0.75),
    ):
        found = measurements({"observed": ours, "constant": bottom, **beside}, 5)
        assert effective_horizon(found, "m").delay == pytest.approx(expected)


def test_noise_has_no_effective_horizon() -> None:
    rng = np.random.default_rng(1)
    ours, constant = rng.normal(0.5, 0.2, (2, 8, 40)), np.full((2, 8, 40), 0.5)
    found = measurements({"observed": ours - (ours[..., :1].mean() - 0.51), "constant": constant}, 40)
    assert str(effective_horizon(found, "m")) == "-"  # though the first of its delays is above by chance


def test_one_delay_that_falls_by_chance_is_no_horizon() -> None:
    recall = np.array([0.9] * 5 + [0.5] + [0.9] * 5 + [0.5] * 5) + np.zeros((2, 3, 16))
    found = measurements({"observed": recall, "constant": np.full((2, 3, 16), 0.5)}, 16)
    assert 10 <= effective_horizon(found, "m").delay <= 11


def test_a_difference_is_paired_and_surer_than_two_intervals() -> None:
    episodes = np.random.default_rng(0).normal(0, 1, (1, 30, 1)) + np.zeros((2, 30, 2))
    found = measurements({"observed": episodes + 0.1, "no_memory": episodes}, 2)
    by = found.difference("m", "observed", "no_memory")
    assert (by.low, by.high) == pytest.approx((0.1, 0.1))
    assert found.estimate("m", "observed").low < found.estimate("m", "no_memory").mean
    verdict = Above("observed", "no_memory").judge(found, "m")
    assert verdict is not None
    assert verdict.holds
    assert "seeds" in found.interval
    assert "seeds" not in measurements({"observed": episodes[:1]}, 2).interval
