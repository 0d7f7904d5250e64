"""Encoders, decoders and heads in the style of DreamerV3 (Hafner et al. 2023): k4 s2 convolutions, LayerNorm, SiLU.

Normalised layers have no bias. LayerNorm's epsilon is 1e-3 throughout, as in DreamerV3.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-3


class NormLinear(nn.Module):
    """SiLU(LayerNorm(x W)): (..., in) -> (..., out)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim, bias=False)
        self.norm = nn.LayerNorm(out_dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        return self.of_sum(self.linear(x))

    def of_sum(self, y: Tensor) -> Tensor:
        """SiLU(LayerNorm(y)), y (..., out) = x W put together from the parts of x; see `Head.split`."""
        return F.silu(self.norm(y))


class Head(nn.Module):
    """One hidden layer, then a plain linear output: (..., in) -> (..., out)."""

    def __init__(self, in_dim: int, units: int, out_dim: int) -> None:
        super().__init__()
        self.hidden = NormLinear(in_dim, units)
        self.out = nn.Linear(units, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """The head's raw output."""
        return self.out(self.hidden(x))

    def split(self, *widths: int) -> tuple[Tensor, ...]:
        """The hidden layer's weights (units, width) for each of consecutive parts of the input.

        head([a, b]) = head.of_sum(F.linear(a, of_a) + F.linear(b, of_b)): what b adds can be computed ahead for all b.
        """
        return torch.split(self.hidden.linear.weight, list(widths), dim=1)

    def of_sum(self, y: Tensor) -> Tensor:
        """The head's raw output for y (..., units), the sum of what the parts of the input add."""
        return self.out(self.hidden.of_sum(y))


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
    _, height, width = image_shape
    for smallest in (4, 5):
        stages = round(math.log2(height / smallest)) if height >= smallest else 0
        if height == width and stages >= 1 and smallest << stages == height:
            return stages, smallest
    raise ValueError(
        f"Image of shape {tuple(image_shape)} (C, H, W): expected a square whose side is 4 or 5 times a power of two "
        "(8, 10, 16, 20, 32, 40, 64, 80, ...); resize the images or choose another world."
    )


class FrameEncoder(nn.Module, ABC):
    """Images (..., C, H, W), uint8 or float in [0, 1], -> embeddings (..., embed_dim)."""

    image_shape: tuple[int, int, int]
    embed_dim: int

    @abstractmethod
    def initialise(self) -> None:
        """Draw the initial weights."""


class FrameDecoder(nn.Module, ABC):
    """Features (..., feature_dim) -> mean images (..., C, H, W), in [0, 1] where the model is right."""

    image_shape: tuple[int, int, int]

    @abstractmethod
    def initialise(self, memory_dim: int) -> None:
        """Draw the initial weights; the first `memory_dim` features are h, the others z."""


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
        _channels_last(self.stages)
        self.embed_dim = widths[-1] * side * side

    def initialise(self) -> None:
        """DreamerV3's initial weights."""
        self.apply(initialise)

    def forward(self, image: Tensor) -> Tensor:
        """The embedding of every image; pixels enter as x - 0.5."""
        flat = image.reshape(-1, *self.image_shape)
        x = to_unit(flat, next(self.stages.parameters()).dtype) - 0.5
        x = self.stages(x.contiguous(memory_format=torch.channels_last))
        return x.permute(0, 2, 3, 1).reshape(*image.shape[:-3], self.embed_dim)


def stretched_sigmoid(x: Tensor) -> Tensor:
    """1.2 sigmoid(x - ln 11) - 0.1: from -0.1 to 1.1, black at 0 and white at ln 121, with a slope at both.

    A plain sigmoid has none left at black: on black ground it is there before it has seen anything else, and stays.
    The stretch is that of the hard concrete distribution (Louizos, Welling, Kingma 2018).
    """
    return 1.2 * torch.sigmoid(x - math.log(11)) - 0.1


OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x + 0.5,
    "stretched_sigmoid": stretched_sigmoid,
    "tanh": torch.tanh,
}
"""What makes pixels of a decoder's last layer; its zero is grey for `linear`, else black; `tanh` is CW-VAE's."""


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
        _channels_last(self.stages)

    def initialise(self, memory_dim: int) -> None:
        """DreamerV3's initial weights, then grey images and little of h.

        Why: docs/decisions.md#a-sharp-posterior-and-a-quiet-decoder.
        """
        self.apply(initialise)
        self.start_grey()
        self.start_quiet(memory_dim)

    @torch.no_grad()
    def start_grey(self) -> None:
        """Shrink the last layer, so that training starts from an almost uniform picture, not from loud noise."""
        last = self.stages[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        last.weight.mul_(0.1)

    @torch.no_grad()
    def start_quiet(self, width: int) -> None:
        """Shrink the weights on the first `width` features: h, wide and at first without meaning, would drown z."""
        self.project.weight[:, :width].mul_(0.1)

    def forward(self, features: Tensor) -> Tensor:
        """The mean image of every feature vector."""
        x = self.project(features).reshape(-1, self.side, self.side, self.first_width).permute(0, 3, 1, 2)
        return self.output(self.stages(x)).reshape(*features.shape[:-1], *self.image_shape)


def _channels_last(stages: nn.Sequential) -> None:
    """Store the kernels of 2D convolutions channels last, as their inputs are: no copies on the way."""
    for parameter in stages.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def initialise(module: nn.Module) -> None:
    """Weights of linear and convolutional layers ~ truncated normal, variance 1 / mean(fan in, fan out); biases 0.

    DreamerV3's initialisation; 0.87962566 is the standard deviation of a unit normal cut at two of its own.
    """
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        with torch.no_grad():
            fan = module.weight[0, 0].numel() * (module.weight.shape[0] + module.weight.shape[1]) / 2
            std = fan**-0.5 / 0.87962566
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                module.bias.zero_()


def glorot(module: nn.Module) -> None:
    """Weights of linear and convolutional layers ~ Glorot-uniform, biases 0: what Keras starts with."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def to_unit(image: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 in 0..255 -> `dtype` in [0, 1]; floating-point images are taken to be in [0, 1] already."""
    return image.to(dtype) if image.is_floating_point() else image.to(dtype) / 255
