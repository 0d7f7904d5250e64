"""The convolutions of PlaNet (Hafner et al. 2019), which the Clockwork VAE shares: no padding, no normalisation.

    encoder, side 64:  64 > 31 > 14 > 6 > 2    k4 s2 convolutions, leaky ReLU
    decoder, side 64:  1 > 5 > 13 > 30 > 64    linear layer, then k5 k5 k6 k6 s2 transposed convolutions, leaky ReLU

Other sides that are powers of two have fewer or more stages; the decoder's last two kernels are 6, the others 5.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from wmkit.networks.base import OUTPUTS, FrameDecoder, FrameEncoder, glorot, halvings, to_unit

SLOPE = 0.2
"""Of the leaky ReLU for negative inputs."""


def stages_of(image_shape: tuple[int, int, int]) -> int:
    """Number of stride-2 stages; raises `ValueError` unless the image is a square of side 16, 32, 64, ...."""
    stages = halvings(image_shape)
    if stages < 2:
        raise ValueError(
            f"Image of shape {tuple(image_shape)} (C, H, W): networks='planet' expects a square whose side is a power "
            "of two from 16 on; resize the images, or take networks='dreamerv3'."
        )
    return stages


class PlanetEncoder(FrameEncoder):
    """Images (..., C, H, W), uint8 or float in [0, 1], -> embeddings (..., embed_dim); pixels enter as they are."""

    def __init__(self, image_shape: tuple[int, int, int], depth: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        widths = [image_shape[0], *(depth << stage for stage in range(stages_of(image_shape)))]
        self.stages = nn.Sequential()
        for before, after in itertools.pairwise(widths):
            self.stages.append(nn.Conv2d(before, after, 4, 2))
            self.stages.append(nn.LeakyReLU(SLOPE))
        self.embed_dim = widths[-1] * 2 * 2

    def initialise(self) -> None:
        """Keras's initial weights."""
        self.apply(glorot)

    def forward(self, image: Tensor) -> Tensor:
        """The embedding of every image."""
        flat = image.reshape(-1, *self.image_shape)  # (N, C, H, W)
        x = self.stages(to_unit(flat, next(self.stages.parameters()).dtype))  # (N, depth << stages - 1, 2, 2)
        return x.reshape(*image.shape[:-3], self.embed_dim)


class PlanetDecoder(FrameDecoder):
    """Features (..., feature_dim) -> mean images (..., C, H, W) through one of `networks.OUTPUTS`."""

    def __init__(self, feature_dim: int, image_shape: tuple[int, int, int], depth: int, output: str) -> None:
        super().__init__()
        stages = stages_of(image_shape)
        self.image_shape, self.output = image_shape, OUTPUTS[output]
        code = 4 * (depth << (stages - 1))
        self.project = nn.Linear(feature_dim, code)
        widths = [code, *(depth << stage for stage in reversed(range(stages - 1))), image_shape[0]]
        kernels = [5] * (stages - 2) + [6, 6]
        self.stages = nn.Sequential()
        for (before, after), kernel in zip(itertools.pairwise(widths), kernels, strict=True):
            self.stages.append(nn.ConvTranspose2d(before, after, kernel, 2))
            self.stages.append(nn.LeakyReLU(SLOPE))
        del self.stages[-1]

    def initialise(self, memory_dim: int) -> None:
        """Keras's initial weights, whatever the features are."""
        self.apply(glorot)

    def forward(self, features: Tensor) -> Tensor:
        """The mean image of every feature vector."""
        x = self.project(features).reshape(-1, self.project.out_features, 1, 1)  # (N, code, 1, 1)
        return self.output(self.stages(x)).reshape(*features.shape[:-1], *self.image_shape)  # (..., C, H, W)
