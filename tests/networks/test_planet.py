"""PlaNet's convolutions: shapes, outputs, what they refuse."""

import pytest
import torch

from wmkit.networks import PlanetDecoder, PlanetEncoder


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_embedding_and_picture_have_the_sizes_of_the_image(side: int) -> None:
    shape = (3, side, side)
    encoder, decoder = PlanetEncoder(shape, 4), PlanetDecoder(10, shape, 4, "tanh")
    assert encoder(torch.zeros(2, 3, *shape, dtype=torch.uint8)).shape == (2, 3, encoder.embed_dim)
    assert decoder(torch.zeros(2, 3, 10)).shape == (2, 3, *shape)


def test_the_published_embedding_has_1024_numbers() -> None:
    assert PlanetEncoder((1, 64, 64), 32).embed_dim == 1024


@pytest.mark.parametrize(("output", "low", "high"), [("tanh", -1.0, 1.0), ("stretched_sigmoid", -0.1, 1.1)])
def test_outputs_are_bounded_as_named(output: str, low: float, high: float) -> None:
    decoder = PlanetDecoder(6, (1, 16, 16), 4, output)
    images = decoder(1000 * torch.randn(50, 6))
    assert low - 1e-6 <= images.min() < low + 0.1
    assert high - 0.1 < images.max() <= high + 1e-6


@pytest.mark.parametrize("shape", [(3, 40, 40), (3, 8, 8), (3, 32, 64)])
def test_other_sides_are_refused_with_advice(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="power of two from 16 on; resize the images, or take networks='dreamerv3'"):
        PlanetEncoder(shape, 4)
