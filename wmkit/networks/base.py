"""What every encoder and decoder shares: their contract, heads, initial weights, and how pixels come in and go out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-3


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


def halvings(image_shape: tuple[int, int, int], smallest: int = 4) -> int:
    """How often the side of a square image (C, H, W) is halved on the way to `smallest`; 0 for any other shape."""
    _, height, width = image_shape
    stages = round(math.log2(height / smallest)) if height >= smallest else 0
    return stages if height == width == smallest << stages else 0


def stretched_sigmoid(x: Tensor) -> Tensor:
    """1.2 sigmoid(x - ln 11) - 0.1: from -0.1 to 1.1, black at 0 and white at ln 121, with a slope at both.

    A plain sigmoid has none left at black: on black ground it is there before it has seen anything else, and stays.
    The stretch is that of the hard concrete distribution (Louizos, Welling, Kingma 2018).
    """
    return 1.2 * torch.sigmoid(x - math.log(11)) - 0.1


def from_grey(x: Tensor) -> Tensor:
    """x + 1/2: grey at 0, and no bounds. By name, not as a lambda: models are pickled whole."""
    return x + 0.5


OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": from_grey,
    "stretched_sigmoid": stretched_sigmoid,
    "tanh": torch.tanh,
}
"""What makes pixels of a decoder's last layer; its zero is grey for `linear`, else black; `tanh` is CW-VAE's."""


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


def channels_last(stages: nn.Module) -> None:
    """Store the kernels of 2D convolutions channels last, as their inputs are: no copies on the way."""
    for parameter in stages.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
