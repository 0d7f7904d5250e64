"""Encoders and decoders: shapes, sizes that are refused, bytes and floats."""

import pytest
import torch

from wmkit.networks.base import to_unit
from wmkit.networks.dreamer import ImageDecoder, ImageEncoder, stages_and_side


@pytest.mark.parametrize(
    ("side", "stages", "smallest"), [(8, 1, 4), (10, 1, 5), (16, 2, 4), (20, 2, 5), (40, 3, 5), (64, 4, 4), (80, 4, 5)]
)
def test_a_side_of_four_or_five_times_a_power_of_two_is_supported(side: int, stages: int, smallest: int) -> None:
    assert stages_and_side((3, side, side)) == (stages, smallest)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 48, 48), (3, 64, 32), (3, 65, 65), (3, 0, 0), (1, 7, 7)])
def test_any_other_image_size_is_refused_with_advice(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="4 or 5 times a power of two"):
        ImageEncoder(shape, 4)


@pytest.mark.parametrize("side", [16, 20])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoder_gives_images_of_the_encoders_shape(side: int, channels: int) -> None:
    shape = (channels, side, side)
    image = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    embed = ImageEncoder(shape, 4)(image)
    assert embed.shape == (2, 3, ImageEncoder(shape, 4).embed_dim)
    assert ImageDecoder(7, shape, 4)(torch.randn(2, 3, 7)).shape == (2, 3, *shape)


def test_bytes_and_unit_floats_of_the_same_picture_are_encoded_alike() -> None:
    encoder = ImageEncoder((3, 16, 16), 4)
    image = torch.randint(0, 256, (1, 2, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(encoder(image), encoder(to_unit(image)))


def test_memory_layout_of_the_images_changes_nothing() -> None:
    encoder = ImageEncoder((3, 16, 16), 4)
    rows_last = torch.randint(0, 256, (2, 2, 16, 16, 3), dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(encoder(rows_last), encoder(rows_last.contiguous()))
