"""Shares and their intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit.evaluation.proportion import Proportion


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
def test_interval_is_wilsons(hits: int, number: int, low: float, high: float) -> None:
    assert Proportion(hits, number).interval() == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 2000).flatmap(lambda number: st.tuples(st.integers(0, number), st.just(number))))
def test_interval_holds_the_share_and_mirrors(outcome: tuple[int, int]) -> None:
    hits, number = outcome
    low, high = Proportion(hits, number).interval()
    assert 0 <= low <= hits / number <= high <= 1
    assert Proportion(number - hits, number).interval() == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("hits", "number"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_of_nothing_is_refused(hits: int, number: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= hits <= number"):
        Proportion(hits, number)


def test_reads_as_per_cent() -> None:
    assert str(Proportion(81, 263)) == "30.8% [25.5%, 36.6%]"
