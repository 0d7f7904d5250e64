"""Encoders and decoders of SVG with skip connections: the convolutions of DCGAN, and those of VGG.

    encoder   image (N, C, H, W) -> maps, one of each stage, finest first -> code (N, G) in (-1, 1)
    decoder   code, and the maps of one image -> image in (0, 1)

    dcgan, side 64    maps 32, 16, 8, 4     k4 s2 convolutions; code k4; the decoder mirrors it
    vgg, side 64      maps 64, 32, 16, 8    blocks of 2, 2, 3, 3 k3 convolutions, max pooling between; code k4; the
                                            decoder mirrors it with nearest-neighbour upsampling

Stage s has depth * 2^s channels, at most 8 * depth. Every convolution but the last has BatchNorm and a leaky ReLU, or
tanh for the code. At each stage the decoder reads the map of that size beside its own.

Source: Denton, Fergus, Stochastic Video Generation with a Learned Prior, 2018, appendix.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wmkit.networks import halvings

SLOPE = 0.2
"""Of the leaky ReLU for negative inputs."""


def widths_of(image_shape: tuple[int, int, int], depth: int) -> list[int]:
    """Channels of every stage, finest first; raises `ValueError` unless images are squares of side 8, 16, 32, ...."""
    stages = halvings(image_shape)
    if not stages:
        raise ValueError(
            f"Image of shape {tuple(image_shape)} (C, H, W): svg_lp expects a square whose side is a power of two from "
            "8 on; resize the images"
        )
    return [depth * min(8, 1 << stage) for stage in range(stages)]


def activated(convolution: nn.Module, channels: int, activation: nn.Module | None = None) -> nn.Sequential:
    """A convolution with BatchNorm and what comes after it, a leaky ReLU unless another is named."""
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), activation or nn.LeakyReLU(SLOPE))


def block(widths: Sequence[int]) -> nn.Sequential:
    """k3 convolutions from each width to the next."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(activated(nn.Conv2d(before, after, 3, 1, 1), after) for before, after in pairs))


def convolutions_of(stage: int) -> int:
    """Of a VGG block: two in the first two, three in the others."""
    return 2 if stage < 2 else 3


class SkipEncoder(nn.Module, ABC):
    """Images to maps and codes; `stages` make the maps, each from the one before."""

    def __init__(self, image_shape: tuple[int, int, int], depth: int, code_dim: int) -> None:
        super().__init__()
        channels = [image_shape[0], *widths_of(image_shape, depth)]
        pairs = enumerate(itertools.pairwise(channels))
        self.stages = nn.ModuleList(self.stage(number, before, after) for number, (before, after) in pairs)
        self.last = activated(nn.Conv2d(channels[-1], code_dim, 4), code_dim, nn.Tanh())

    @abstractmethod
    def stage(self, number: int, before: int, after: int) -> nn.Module:
        """What makes a map of `after` channels of the one before it."""

    def maps(self, image: Tensor) -> list[Tensor]:
        """(N, C, H, W) in [0, 1] -> the map of every stage, finest first."""
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else image))
        return maps

    def code(self, maps: Sequence[Tensor]) -> Tensor:
        """The code (N, G) of an image by its maps."""
        return self.last(maps[-1]).flatten(1)

    def forward(self, image: Tensor) -> Tensor:
        """The code (N, G) of images (N, C, H, W)."""
        return self.code(self.maps(image))


class SkipDecoder(nn.Module, ABC):
    """Codes and maps to images; `stages` go from the coarsest map to the finest."""

    def __init__(self, image_shape: tuple[int, int, int], depth: int, code_dim: int) -> None:
        super().__init__()
        channels = [image_shape[0], *widths_of(image_shape, depth)]
        self.first = activated(nn.ConvTranspose2d(code_dim, channels[-1], 4), channels[-1])
        pairs = reversed(list(enumerate(itertools.pairwise(channels))))
        self.stages = nn.ModuleList(self.stage(number, before, after) for number, (after, before) in pairs)

    @abstractmethod
    def stage(self, number: int, before: int, after: int) -> nn.Module:
        """What makes `after` channels of twice `before`, its own and the map's; that of number 0 makes the image."""

    def forward(self, code: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(N, G), and the maps of one image for each -> (N, C, H, W)."""
        x = self.first(code[:, :, None, None])  # (N, 8 depth, 4, 4)
        for stage, skip in zip(self.stages, reversed(maps), strict=True):
            x = stage(self.enlarged(x, skip))
        return torch.sigmoid(x)

    def enlarged(self, x: Tensor, skip: Tensor) -> Tensor:
        """What a stage reads: x (N, D, h, w), and the map beside it."""
        return torch.cat([x, skip], 1)


class DcganEncoder(SkipEncoder):
    """k4 s2 convolutions."""

    def stage(self, number: int, before: int, after: int) -> nn.Module:
        return activated(nn.Conv2d(before, after, 4, 2, 1), after)


class DcganDecoder(SkipDecoder):
    """k4 s2 transposed convolutions."""

    def stage(self, number: int, before: int, after: int) -> nn.Module:
        convolution = nn.ConvTranspose2d(2 * before, after, 4, 2, 1)
        return activated(convolution, after) if number else convolution


class VggEncoder(SkipEncoder):
    """Blocks of k3 convolutions, each but the first behind a pooling; the code's is behind one too."""

    def __init__(self, image_shape: tuple[int, int, int], depth: int, code_dim: int) -> None:
        super().__init__(image_shape, depth, code_dim)
        self.last.insert(0, nn.MaxPool2d(2))

    def stage(self, number: int, before: int, after: int) -> nn.Module:
        convolutions = block([before, *[after] * convolutions_of(number)])
        return nn.Sequential(nn.MaxPool2d(2), convolutions) if number else convolutions


class VggDecoder(SkipDecoder):
    """Blocks of k3 convolutions behind upsampling; each ends at the width of the next."""

    def stage(self, number: int, before: int, after: int) -> nn.Module:
        own = [before] * (convolutions_of(number) - 1)
        if number:
            return block([2 * before, *own, after])
        return nn.Sequential(block([2 * before, *own]), nn.ConvTranspose2d(before, after, 3, 1, 1))

    def enlarged(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.cat([nn.functional.interpolate(x, scale_factor=2), skip], 1)


NETWORKS: dict[str, tuple[type[SkipEncoder], type[SkipDecoder]]] = {
    "dcgan": (DcganEncoder, DcganDecoder),
    "vgg": (VggEncoder, VggDecoder),
}
"""Encoder and decoder by `SvgLpConfig.networks`."""
