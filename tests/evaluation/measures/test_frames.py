"""The unit of the error, against numbers worked out by hand."""

import torch

from wmkit.evaluation.measures.frames import frame_error


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
