"""What a user gave is checked in the same words everywhere."""

import math

import numpy as np
import pytest

from wmkit.checks import check_between, check_bool, check_choice, check_integer, check_positive, closest


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


@pytest.mark.parametrize("value", ["1", None, True, [1]])
def test_a_number_is_no_text_and_no_flag(value: object) -> None:
    for check in (lambda: check_between("lr", value, 0), lambda: check_positive("lr", value)):
        with pytest.raises(ValueError, match=r"^lr: expected a number, got "):
            check()


def test_a_whole_number_is_an_integer_of_any_library() -> None:
    assert check_integer("units", np.int64(3), 1) == 3
    for value in (2.0, "2", None, True, np.float32(2)):
        with pytest.raises(ValueError, match="units: expected a whole number of at least 1"):
            check_integer("units", value, 1)
    with pytest.raises(ValueError, match="units: expected at least 1, got 0"):
        check_integer("units", 0, 1)


def test_a_flag_is_true_or_false() -> None:
    check_bool("reward_head", False)
    with pytest.raises(ValueError, match="reward_head: expected True or False, got 'yes'"):
        check_bool("reward_head", "yes")


def test_capitals_do_not_hide_the_nearest_word() -> None:
    assert closest("GRU", ["gru", "s4"]) == " Did you mean 'gru'?"
