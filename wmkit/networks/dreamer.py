"""Encoder and decoder in the style of DreamerV3 (Hafner et al. 2023): k4 s2 convolutions, LayerNorm, SiLU.

Normalised layers have no bias. LayerNorm's epsilon is 1e-3 throughout, as in DreamerV3.
"""

from __future__ import annotations

import itertools

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit.networks.base import (
    NORM_EPS,
    OUTPUTS,
    FrameDecoder,
    FrameEncoder,
    channels_last,
    halvings,
    initialise,
    to_unit,
)


class ChannelNorm(nn.Module):
    """SiLU(LayerNorm over channels) at every pixel of (B, C, H, W); free of copies in channels_last memory."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """The activated image, same shape."""
        return F.silu(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def stages_and_side(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """(number of stride-2 stages, side of the smallest feature map) of a square image.

    The side is 4 or 5 times 2^n, n >= 1. Raises `ValueError` for any other size.
    """
    for smallest in (4, 5):
        if stages := halvings(image_shape, smallest):
            return stages, smallest
    raise ValueError(
        f"Image of shape {tuple(image_shape)} (C, H, W): expected a square whose side is 4 or 5 times a power of two "
        "(8, 10, 16, 20, 32, 40, 64, 80, ...); resize the images or choose another world."
    )


class ImageEncoder(FrameEncoder):
    """Images (..., C, H, W), uint8 or float in [0, 1], -> embeddings (..., embed_dim)."""

    def __init__(self, image_shape: tuple[int, int, int], depth: int) -> None:
        super().__init__()
        stages, side = stages_and_side(image_shape)
        self.image_shape = image_shape
        widths = [image_shape[0], *(depth << stage for stage in range(stages))]
        self.stages = nn.Sequential()
        for before, after in itertools.pairwise(widths):
            self.stages.append(nn.Conv2d(before, after, 4, 2, 1, bias=False))
            self.stages.append(ChannelNorm(after))
        channels_last(self.stages)
        self.embed_dim = widths[-1] * side * side

    def initialise(self) -> None:
        """DreamerV3's initial weights."""
        self.apply(initialise)

    def forward(self, image: Tensor) -> Tensor:
        """The embedding of every image; pixels enter as x - 0.5."""
        flat = image.reshape(-1, *self.image_shape)  # (N, C, H, W)
        x = to_unit(flat, next(self.stages.parameters()).dtype) - 0.5
        x = self.stages(x.contiguous(memory_format=torch.channels_last))  # (N, depth << stages - 1, side, side)
        return rearrange(x, "n c h w -> n (h w c)").reshape(*image.shape[:-3], self.embed_dim)


class ImageDecoder(FrameDecoder):
    """Features (..., feature_dim) -> mean images (..., C, H, W), in [0, 1] where the model is right (not clipped)."""

    def __init__(self, feature_dim: int, image_shape: tuple[int, int, int], depth: int, output: str = "linear") -> None:
        super().__init__()
        self.output = OUTPUTS[output]
        stages, self.side = stages_and_side(image_shape)
        self.image_shape = image_shape
        widths = [*(depth << stage for stage in reversed(range(stages))), image_shape[0]]
        self.first_width = widths[0]
        self.project = nn.Linear(feature_dim, widths[0] * self.side * self.side)
        self.stages = nn.Sequential()
        for before, after in itertools.pairwise(widths):
            last = len(self.stages) == 2 * (stages - 1)
            self.stages.append(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=last))
            if not last:
                self.stages.append(ChannelNorm(after))
        channels_last(self.stages)

    def initialise(self, memory_dim: int) -> None:
        """DreamerV3's initial weights, then grey images and little of h.

        Why: docs/decisions.md#a-sharp-posterior-and-a-quiet-decoder.
        """
        self.apply(initialise)
        last = self.stages[-1]
        assert isinstance(last, nn.ConvTranspose2d), "the stages end with a convolution"
        with torch.no_grad():
            last.weight.mul_(0.1)  # an almost uniform picture instead of loud noise
            self.project.weight[:, :memory_dim].mul_(0.1)  # h, wide and at first without meaning, would drown z

    def forward(self, features: Tensor) -> Tensor:
        """The mean image of every feature vector."""
        x = rearrange(self.project(features), "... (h w c) -> (...) c h w", h=self.side, w=self.side)
        return self.output(self.stages(x)).reshape(*features.shape[:-1], *self.image_shape)  # (..., C, H, W)
