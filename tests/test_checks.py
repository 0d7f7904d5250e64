"""What a user gave is checked in the same words everywhere."""

import math

import pytest

from wmkit.checks import check_between, check_choice, check_positive, closest


def test_the_nearest_word_is_proposed_and_none_that_is_far() -> None:
    assert closest("backbne", ["world", "backbone"]) == " Did you mean 'backbone'?"
    assert closest("backbne", {"world": 1}) == ""


def test_a_choice_is_one_of_its_words() -> None:
    check_choice("size", "tiny", ("tiny", "small"))
    check_choice("size", None, (None, "tiny"))
    with pytest.raises(ValueError, match=r"^size: expected one of tiny, small, got 'tinny'\. Did you mean 'tiny'\?$"):
        check_choice("size", "tinny", ("tiny", "small"))


@pytest.mark.parametrize("value", [0, math.nan, math.inf, -math.inf])
def test_a_number_is_finite_and_at_least_its_limit(value: float) -> None:
    check_between("seed", 1, 1)
    with pytest.raises(ValueError, match="seed: expected at least 1, got"):
        check_between("seed", value, 1)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_share_is_between_its_limits(value: float) -> None:
    check_between("share", 1.0, 0, 1)
    with pytest.raises(ValueError, match="share: expected between 0 and 1, got"):
        check_between("share", value, 0, 1)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_positive_number_is_above_zero_and_finite(value: float) -> None:
    check_positive("lr", 1e-3)
    with pytest.raises(ValueError, match="lr: expected a positive number, got"):
        check_positive("lr", value)
