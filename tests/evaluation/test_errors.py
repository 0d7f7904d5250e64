"""The unit of the error and its intervals, against numbers worked out by hand."""

import math

import pytest
import torch

from wmkit.evaluation.errors import Errors, frame_error


def test_frame_error_is_the_sum_over_channels_and_pixels_of_squares_on_the_unit_interval():
    target = torch.zeros(1, 2, 3, 2, 2, dtype=torch.uint8)
    prediction = torch.zeros(1, 2, 3, 2, 2)
    prediction[0, 0] = 0.5  # 12 pixel channels, 0.25 each
    prediction[0, 1, 0, 0, 0] = 2.0  # not clamped
    assert frame_error(prediction, target).tolist() == [[3.0, 4.0]]


def test_bytes_and_unit_floats_are_the_same_pixels():
    image = torch.randint(256, (2, 3, 1, 4, 4), dtype=torch.uint8)
    assert frame_error(image.float() / 255, image).abs().max() == 0
    black, white = torch.zeros_like(image), torch.full_like(image, 255)
    assert frame_error(white, black).tolist() == [[16.0] * 3] * 2


def test_one_image_is_compared_with_every_frame():
    image = torch.randint(256, (2, 3, 3, 4, 4), dtype=torch.uint8)
    constant = torch.full((3, 4, 4), 0.25)
    expected = (image.double() / 255 - 0.25).square().sum((-3, -2, -1)).float()
    torch.testing.assert_close(frame_error(constant, image), expected)


def test_curve_has_one_mean_and_one_interval_per_step():
    errors = Errors(torch.tensor([[1.0, 10.0, 5.0], [3.0, 10.0, 7.0]]))
    assert errors.mean().tolist() == [2.0, 10.0, 6.0]
    # standard deviation of (1, 3) is sqrt(2); over sqrt(2) episodes it is 1
    torch.testing.assert_close(errors.half_width(), torch.tensor([1.96, 0.0, 1.96], dtype=torch.float64))


def test_interval_over_a_range_is_over_episodes_not_over_steps():
    errors = Errors(torch.tensor([[0.0, 4.0, 99.0], [2.0, 6.0, 99.0]]))
    estimate = errors.over(1, 2)
    assert estimate.mean == 3.0
    assert math.isclose(estimate.half_width, 1.96)  # episode means 2 and 4
    assert errors.over(3, 3).mean == 99.0


def test_some_steps_of_each_episode_weigh_as_much_as_others_of_another():
    errors = Errors(torch.tensor([[1.0, 3.0, 50.0], [8.0, 90.0, 90.0]]))
    found = errors.at(torch.tensor([[True, True, False], [True, False, False]]))
    assert found.mean == 5.0
    assert found.half_width == pytest.approx(errors.over(1, 1).half_width * 6 / 7)  # they differ by 6, not 7
    with pytest.raises(AssertionError, match="an episode without a step"):
        errors.at(torch.tensor([[True, True, True], [False, False, False]]))


def test_a_single_episode_has_no_interval():
    errors = Errors(torch.tensor([[1.0, 2.0]]))
    assert errors.half_width().tolist() == [0.0, 0.0]
    assert errors.whole().half_width == 0.0


def test_errors_without_an_episode_axis_are_refused():
    with pytest.raises(ValueError, match=r"expected \(episodes, steps\)"):
        Errors(torch.zeros(3))
