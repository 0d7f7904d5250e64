"""A small encoder of clips, trained here: it learns to tell what is wrong with a clip; its features say how one looks.

For Frechet distances where no published network is at hand, or none fits: digits are not what those were trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import islice, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit.data import EpisodeSource, RandomWindows, Subset
from wmkit.networks import to_unit

SIDE = 32
"""Pixels on a side that frames are averaged to."""
WIDTH = 64
"""Of the features."""
POOL, STEPS, ROWS, RATE = 512, 400, 32, 3e-3
"""Clips that are trained on; steps of Adam, clips of each, its learning rate."""
DRAWN, WINDOWS = 32, 4
"""Episodes that are loaded together, and clips of each."""
NOISE = 0.15
"""Standard deviation of the noise of `noisy`."""

Fault = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From clips (N, T, C, H, W) in [0, 1], other ones, and for each clip the steps (N, T, 1, 1, 1) where the fault is."""


def frozen(clip: Tensor, other: Tensor, late: Tensor) -> Tensor:
    """The last frame before the fault stays."""
    last = (~late).flatten(1).sum(1) - 1
    return torch.where(late, clip[torch.arange(len(clip)), last][:, None], clip)


def cut(clip: Tensor, other: Tensor, late: Tensor) -> Tensor:
    """Another clip goes on."""
    return torch.where(late, other, clip)


def mixed(clip: Tensor, other: Tensor, late: Tensor) -> Tensor:
    """The mean with another clip, as of one who cannot decide."""
    return torch.where(late, (clip + other) / 2, clip)


def blurred(clip: Tensor, other: Tensor, late: Tensor) -> Tensor:
    """Means over 5x5 pixels."""
    return torch.where(late, F.avg_pool2d(clip.flatten(0, 1), 5, stride=1, padding=2).reshape(clip.shape), clip)


def faded(clip: Tensor, other: Tensor, late: Tensor) -> Tensor:
    """Half of the contrast to the clip's mean."""
    return torch.where(late, (clip + clip.mean((1, 3, 4), keepdim=True)) / 2, clip)


def noisy(clip: Tensor, other: Tensor, late: Tensor) -> Tensor:
    """Noise on every pixel."""
    return torch.where(late, (clip + NOISE * torch.randn_like(clip)).clamp(0, 1), clip)


def shuffled(clip: Tensor, other: Tensor, late: Tensor) -> Tensor:
    """All frames, in any order."""
    order = torch.rand(clip.shape[:2]).argsort(1)
    return clip[torch.arange(len(clip))[:, None], order]


def sound(clip: Tensor, other: Tensor, late: Tensor) -> Tensor:
    """Nothing is wrong."""
    return clip


FAULTS: tuple[Fault, ...] = (sound, frozen, cut, mixed, blurred, faded, noisy, shuffled)


class ClipEncoder(nn.Module):
    """Clips (N, T, C, H, W) -> features (N, 64): convolutions over time and place, and their mean over both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 16, 32, WIDTH)
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            stride = (1 if number == 0 else 2, 2, 2)
            layers += [nn.Conv3d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(4, outputs), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTH, len(FAULTS))

    def forward(self, clip: Tensor) -> Tensor:
        """clip: uint8, or floats, which are clamped to [0, 1]; of any size, averaged to 32x32."""
        return self.layers(small(clip).transpose(1, 2)).mean((2, 3, 4))

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of its weights: distances compare under equal ones."""
        found = hashlib.sha256()
        for value in self.state_dict().values():
            found.update(value.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:8]


def small(clip: Tensor) -> Tensor:
    """(N, T, C, H, W) -> (N, T, C, 32, 32) float32 in [0, 1]."""
    frames = F.adaptive_avg_pool2d(to_unit(clip.flatten(0, 1)).clamp(0, 1), SIDE)
    return frames.reshape(*clip.shape[:3], SIDE, SIDE)


def fit_clip_encoder(source: EpisodeSource, length: int, *, steps: int = STEPS, seed: int = 0) -> ClipEncoder:
    """Train an encoder to name the fault of true clips of `source` that it is shown with one of `FAULTS`, or none.

    length: steps of a clip. It takes one thread of a CPU, however many there are, half a minute: so the same episodes
    give the same encoder. Raises `ValueError` where no episode is so long.
    """
    if source.num_episodes is not None:
        long = [index for index in range(source.num_episodes) if source.episode_length(index) >= length]
        if not long:
            raise ValueError(f"The encoder of clips needs training episodes of {length} steps or more: there are none")
        source = Subset(source, long)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of several are rounded otherwise
    try:
        with RandomWindows(source, DRAWN, length, seed=seed, windows_per_episode=WINDOWS) as windows:
            drawn = (batch.image[batch.mask.all(1)] for batch in windows)
            clips = torch.cat([small(image) for image in islice(drawn, POOL // DRAWN)])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = ClipEncoder(source.image_shape[0])
            optimiser = torch.optim.Adam(encoder.parameters(), lr=RATE)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
            for _ in range(steps):
                clip, other = (clips[torch.randint(len(clips), (ROWS,))] for _ in range(2))
                begin = torch.randint(1, max(2, length), (ROWS, 1))
                late = (torch.arange(length) >= begin)[..., None, None, None]
                kind = torch.arange(ROWS) % len(FAULTS)
                shown = clip.clone()
                for number, fault in enumerate(FAULTS):
                    rows = kind == number
                    shown[rows] = fault(clip[rows], other[rows], late[rows])
                loss = F.cross_entropy(encoder.head(encoder(shown)), kind)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
    finally:
        torch.set_num_threads(threads)
    return encoder.eval().requires_grad_(False)
