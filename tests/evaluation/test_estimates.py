"""Ranges of query steps; means over episodes and their intervals, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit.evaluation.estimates import (
    GROUPS,
    binomial,
    crossed,
    cut,
    jackknife,
    label,
    normal,
    normal_curve,
    percentiles,
)


def test_normal_interval_is_196_standard_errors():
    estimate = normal(np.array([1.0, 3.0]))  # standard deviation sqrt(2); over sqrt(2) episodes it is 1
    assert (estimate.mean, estimate.episodes) == (2.0, 2)
    assert (estimate.low, estimate.high, estimate.half_width) == pytest.approx((0.04, 3.96, 1.96))


def test_a_single_episode_has_no_interval_and_none_no_mean():
    assert normal(np.array([3.0])).half_width == 0.0
    assert math.isnan(normal(np.array([])).mean)
    assert math.isnan(binomial(np.array([])).mean)


def test_curve_has_one_interval_per_step_over_the_episodes_that_count_there():
    values = np.array([[1.0, 10.0, 5.0, 9.0], [3.0, 10.0, np.nan, 9.0]])
    counts = np.array([[True, True, True, False], [True, True, False, False]])
    mean, low, high = normal_curve(values, counts)
    np.testing.assert_allclose(mean, [2, 10, 5, np.nan])
    np.testing.assert_allclose((high - low) / 2, [1.96, 0, 0, np.nan], atol=1e-12)


@pytest.mark.parametrize(
    ("hits", "number", "low", "high"),
    # Wilson's formula by hand; 81 of 263 is Newcombe's (1998) first example: 0.2553 to 0.3662
    [
        (81, 263, 0.2553, 0.3662),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (500, 1000, 0.469, 0.531),
    ],
)
def test_interval_of_a_share_is_wilsons(hits: int, number: int, low: float, high: float) -> None:
    estimate = binomial(np.arange(number) < hits)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)
    assert (estimate.mean, estimate.episodes) == (hits / number, number)


@given(st.integers(1, 300).flatmap(lambda number: st.tuples(st.integers(0, number), st.just(number))))
def test_interval_of_a_share_holds_it(outcome: tuple[int, int]) -> None:
    hits, number = outcome
    estimate = binomial((np.arange(number) < hits).astype(float))
    assert 0 <= estimate.low <= hits / number <= estimate.high <= 1


def test_outcomes_other_than_0_and_1_are_refused() -> None:
    with pytest.raises(ValueError, match="outcomes that are 0 or 1"):
        binomial(np.array([0.0, 0.5]))


def test_draws_that_are_not_known_are_left_out_of_an_interval_and_none_is_none() -> None:
    draws = np.stack([np.arange(41.0), np.where(np.arange(41) % 2, np.nan, np.arange(41)), np.full(41, np.nan)], 1)
    low, high = percentiles(draws)
    assert low.tolist() == pytest.approx([1, 1, np.nan], nan_ok=True)
    assert high.tolist() == pytest.approx([39, 39, np.nan], nan_ok=True)


def test_an_interval_over_seeds_and_episodes_has_the_variance_of_both_means() -> None:
    """Of sums of an effect of the seed and one of the episode, that all seeds share."""
    rng = np.random.default_rng(0)
    seeds, episodes = rng.normal(0, 1, 40), rng.normal(0, 2, 60)
    estimate = crossed(seeds[:, None] + episodes)
    error = math.sqrt(seeds.var() / 40 + episodes.var() / 60)
    assert estimate.mean == pytest.approx(seeds.mean() + episodes.mean())
    assert estimate.half_width == pytest.approx(1.96 * error, rel=0.05)
    assert estimate.episodes == 60
    assert math.isnan(crossed(np.zeros((3, 0))).mean)


def test_ranges_are_cut_to_the_horizon():
    assert [cut(steps, 50) for steps in ((1, 5), (6, 20), (50, 50))] == [(1, 5), (6, 20), (50, 50)]
    assert [cut(steps, 12) for steps in ((1, 5), (6, 20), (50, 50))] == [(1, 5), (6, 12), (12, 12)]
    assert [label((6, 20)), label((50, 50))] == ["6-20", "50"]


def test_negative_steps_count_from_the_end_of_the_query():
    assert [cut((-10, -1), horizon) for horizon in (200, 10, 4)] == [(191, 200), (1, 10), (1, 4)]
    assert cut((-3, -2), 10) == (8, 9)


@pytest.mark.parametrize("steps", [(0, 3), (4, 3), (-3, 2), (-1, -3)])
def test_a_range_that_is_none_is_refused(steps):
    with pytest.raises(ValueError, match="range of query steps"):
        cut(steps, 10)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=20))
def test_the_jackknife_of_a_mean_is_the_values_themselves(values: list[float]) -> None:
    found = jackknife(lambda rows: float(np.mean(np.array(values)[rows])), len(values))
    np.testing.assert_allclose(found, values, atol=1e-9)


@given(st.integers(0, 10**6), st.integers(3, 30))
def test_the_jackknife_keeps_the_score_and_has_tukeys_standard_error(seed: int, number: int) -> None:
    x = np.random.default_rng(seed).standard_normal(number)

    def score(rows: np.ndarray) -> float:
        return float(np.var(x[rows])) ** 0.5

    without = np.array([score(np.delete(np.arange(number), row)) for row in range(number)])
    error = np.sqrt((number - 1) / number * np.square(without - without.mean()).sum())
    estimate = normal(jackknife(score, number))
    assert (estimate.mean, estimate.half_width) == pytest.approx((score(np.arange(number)), 1.96 * error))


@pytest.mark.parametrize("number", [51, 75, 99, 100, 260])
def test_a_jackknife_in_groups_calls_the_score_a_few_times_and_has_the_same_error(number: int) -> None:
    rng = np.random.default_rng(0)
    calls, squares = [], []
    for _ in range(60):
        x = rng.standard_normal(number)
        calls.append(0)

        def score(rows: np.ndarray, x: np.ndarray = x) -> float:
            calls[-1] += 1
            return float(x[rows].mean())

        estimate = normal(jackknife(score, number))
        assert estimate.mean == pytest.approx(x.mean())
        squares.append((estimate.half_width / 1.96) ** 2)
    assert set(calls) == {GROUPS + 1}
    assert np.mean(squares) * number == pytest.approx(1, rel=0.1)


def test_two_rows_have_a_score_without_an_interval() -> None:
    assert jackknife(lambda rows: float(len(rows)), 2).tolist() == [2.0, 2.0]
