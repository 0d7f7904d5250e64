"""The probe that reads frames: any model's predictions can be judged by it, for it knows nothing of models."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit.data import EpisodeSource, RandomWindows
from wmkit.evaluation.digits.chart import CELLS, PLACES, joint_chart
from wmkit.evaluation.digits.probe import Example, Probe, Reader, fit
from wmkit.evaluation.digits.truth import CLASSES, KEYS, Digits
from wmkit.networks import to_unit

STEPS, RATE = 2500, 5e-3
CLIPS, CLIP_LENGTH, EVERY = 8, 25, 8
"""Of each training example: so many clips, of which every eighth frame is read."""
TURN, STRETCH, SHEAR = 0.17, 0.12, 0.15
"""Largest rotation in radians, relative change of size and shear of training frames."""
NOISE = 0.1
"""Largest standard deviation of the noise on training frames."""


class FrameReader(Reader):
    """Frames (N, C, H, W), averaged to 32x32 -> a belief about class and place together, (N, 10, 100).

    Convolutions without padding over the 16x16 cells leave the inner 10x10: what is around a cell and nothing else
    says what is in it, so that a digit is read alike wherever it is.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * channels, 32, 5),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.Conv2d(64, 64, 1),
            nn.ReLU(),
            nn.Conv2d(64, CLASSES, 1),
        )

    def forward(self, frame: Tensor) -> Tensor:
        """Log-probabilities (N, 1000) of class and place together, place by place within a class."""
        small = F.adaptive_avg_pool2d(to_unit(frame).clamp(0, 1), 2 * CELLS)
        small = small.contiguous(memory_format=torch.channels_last)  # a third of the time on a CPU
        return self.layers(small).flatten(1).log_softmax(-1)

    def beliefs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Reader.beliefs`."""
        joint = self(x).exp().reshape(-1, CLASSES, PLACES)
        return joint.sum(-1), joint.sum(-2)

    def loss(self, x: Tensor, truth: Digits, side: int) -> Tensor:
        """See `Reader.loss`."""
        return -(joint_chart(truth, side).flatten(1).to(x.device) * self(x)).sum(-1).mean()


def fit_frame_probe(
    source: EpisodeSource, *, steps: int = STEPS, seed: int = 0, device: torch.device | str = "cpu"
) -> Probe:
    """Fit a probe to true frames of `source`, training episodes with `KEYS`, each turned, stretched and noisy.

    A few frames of one clip, then of another: give generated episodes of `CLIP_LENGTH`, the rest would go unread. Half
    a minute of one CPU core. How well it reads true frames of held-out episodes is the ceiling for any prediction, and
    to be told with it.
    """
    channels, side, _ = source.image_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = FrameReader(channels)
    examples = _examples(source, torch.Generator().manual_seed(seed), seed, torch.device(device))
    return fit(reader.to(device), examples, side, steps=steps, rate=RATE)


def _examples(source: EpisodeSource, generator: torch.Generator, seed: int, device: torch.device) -> Iterator[Example]:
    length = min(CLIP_LENGTH, source.episode_length(0))
    with RandomWindows(source, CLIPS, length, seed=seed, windows_per_episode=1, keys=KEYS) as clips:
        for batch in clips:
            frame = to_unit(batch.image[:, ::EVERY]).flatten(0, 1)
            truth = Digits.of(batch)[:, ::EVERY]
            flat = Digits(truth.identity.flatten(0, 1), truth.position.flatten(0, 1))
            frame, flat = _disturbed(frame, flat, generator)
            yield frame.to(device), flat


def _disturbed(frame: Tensor, truth: Digits, generator: torch.Generator) -> Example:
    """Frames turned, stretched and sheared about their middle, with the positions that go with it; fainter, noisy."""
    number, side = frame.shape[0], frame.shape[-1]

    def draw(size: float, *shape: int) -> Tensor:
        return size * (2 * torch.rand(number, *shape, generator=generator) - 1)

    turn, scale = draw(TURN), 1 + draw(STRETCH, 2)
    rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], dim=-1).reshape(-1, 2, 2)
    shape = torch.diag_embed(scale)
    shape[:, 0, 1] = draw(SHEAR)
    inward = rotation @ shape  # where a pixel of the new frame comes from
    grid = F.affine_grid(F.pad(inward, (0, 1)), list(frame.shape), align_corners=False)
    moved = F.grid_sample(frame, grid, align_corners=False)
    middle = torch.einsum("nij,nkj->nki", torch.linalg.inv(inward), truth.position - side / 2) + side / 2
    gain, noise = 0.75 + draw(0.25, 1, 1, 1), (NOISE / 2) + draw(NOISE / 2, 1, 1, 1)
    noisy = gain * moved + noise * torch.randn(moved.shape, generator=generator)
    return noisy, Digits(truth.identity, middle)
