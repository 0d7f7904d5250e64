"""LPIPS: how different two frames look to a network that was trained to name what photographs show.

The arithmetic and three networks (Zhang et al. 2018, version 0.1); their weights are files of `wmkit.weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor, nn

from wmkit.networks import to_unit
from wmkit.weights import open_weights

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of each colour in [-1, 1]: what the networks were trained on."""
TINY = 1e-10


class Fire(nn.Module):
    """SqueezeNet's block: 1x1 convolution to `squeeze` channels, then 1x1 and 3x3 to `expand` each, side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 2 expand, H, W)."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], dim=1)


def alexnet() -> list[nn.Module]:
    """The convolutions of AlexNet as of Krizhevsky (2014)."""
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]


def vgg16() -> list[nn.Module]:
    """The convolutions of VGG-16 (Simonyan and Zisserman 2015)."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, number in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [nn.MaxPool2d(2, 2)] if layers else []
        for _ in range(number):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
    return layers


def squeezenet() -> list[nn.Module]:
    """The layers of SqueezeNet 1.1 (Iandola et al. 2016) before its classifier."""

    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return [
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        pool(),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        pool(),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        pool(),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    ]


class Network(NamedTuple):
    """A network that LPIPS exists for."""

    layers: Callable[[], list[nn.Module]]
    """Numbered as in the published file, whose entries are `features.NUMBER...`."""
    read_after: tuple[int, ...]
    """Numbers of the layers whose outputs are compared."""
    channels: tuple[int, ...]
    """Of those outputs."""
    smallest: int
    """Pixels on a side that the last of them needs."""
    weights: str
    """Name of the network's file; that of the heads is `lpips_` and the network's name."""


NETWORKS = {
    "alex": Network(alexnet, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256), 31, "alexnet"),
    "vgg": Network(vgg16, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512), 16, "vgg16"),
    "squeeze": Network(squeezenet, (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512), 17, "squeezenet1_1"),
}


class Lpips(nn.Module):
    """d(x, y) = sum over layers l of mean over places of sum over channels c of w_lc (f_lc(x) - f_lc(y))^2

    with f_l the network's output after layer l, of length 1 over channels at each place (Zhang et al. 2018, equation
    1). Its weights are random until `load`. Raises `ValueError` for an unknown network.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: str) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, got {network!r}")
        self.network = NETWORKS[network]
        self.heads_file = f"lpips_{network}"
        self.features = nn.ModuleList(self.network.layers())
        self.heads = nn.ParameterList(torch.rand(channels) for channels in self.network.channels)
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).reshape(3, 1, 1))
        self.requires_grad_(False)

    def load(self, network: str | Path | None = None, heads: str | Path | None = None) -> Lpips:
        """Take the published weights, of the network and of the heads; returns self.

        Both are paths; None: where `wmkit.weights` finds the file. Raises `ValueError` where it does not, and for a
        file of another size or hash, of which nothing is loaded.
        """
        with open_weights(self.network.weights, network) as file:
            self.load_network(_tensors(file))
        with open_weights(self.heads_file, heads) as file:
            self.load_heads(_tensors(file))
        return self

    def load_network(self, published: Mapping[str, Tensor]) -> None:
        """Weights of the network, as torchvision names them; those of its classifier are left out."""
        self.features.load_state_dict(
            {name.removeprefix("features."): x for name, x in published.items() if name.startswith("features.")}
        )

    def load_heads(self, published: Mapping[str, Tensor]) -> None:
        """Weights of the channels: `lin0.model.1.weight` (1, channels, 1, 1) of the first layer, and so on."""
        for number, head in enumerate(self.heads):
            head.copy_(published[f"lin{number}.model.1.weight"].flatten())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(N,) of frames x and y (N, C, H, W): uint8, or floats, which are clamped to [0, 1]; grey ones count as RGB.

        Raises `ValueError` for frames of another number of channels than 1 and 3, or smaller than the network takes.
        """
        channels, *sides = x.shape[1:]
        if channels not in (1, 3) or min(sides) < self.network.smallest:
            raise ValueError(
                f"LPIPS: expected frames of 1 or 3 channels and at least {self.network.smallest} pixels on a side, got "
                f"{tuple(x.shape[1:])}"
            )
        both = 2 * torch.cat([to_unit(x), to_unit(y)]).clamp(0, 1).expand(-1, 3, -1, -1) - 1
        both = (both - self.shift) / self.scale
        distances, heads = [], iter(self.heads)
        for number, layer in enumerate(self.features):
            both = layer(both)
            if number in self.network.read_after:
                unit = both / (both.norm(dim=1, keepdim=True) + TINY)
                ours, theirs = unit.chunk(2)
                distances.append(torch.einsum("nchw,c->nhw", (ours - theirs).square(), next(heads)).mean((1, 2)))
        return torch.stack(distances).sum(0)


def _tensors(file: BinaryIO) -> dict[str, Tensor]:
    return torch.load(file, map_location="cpu", weights_only=True)
