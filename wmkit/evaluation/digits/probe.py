"""Networks that read digits, from frames or from features of a model, and the fit that trains them.

A probe of frames judges any model's predictions, for it knows nothing of models. A probe of features, such as [h, z] of
one level of a hierarchy, says what that part of the state knows.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit.data import EpisodeSource, RandomWindows
from wmkit.evaluation.digits.truth import CELLS, CLASSES, KEYS, PLACES, Digits, chart, joint_chart, read_chart
from wmkit.networks import to_unit

ROWS_AT_ONCE = 1024
"""Rows that a network reads at a time: bounds memory."""
FEATURE_STEPS, FEATURE_RATE, FEATURE_ROWS = 1500, 1e-2, 256
"""Steps of the fit to features, its learning rate, rows of an example."""
FRAME_STEPS, FRAME_RATE = 2000, 5e-3
"""Of the fit to frames."""
CLIPS, CLIP_LENGTH, EVERY = 8, 25, 8
"""Of each example of frames: so many clips of so many frames, of which every eighth is read."""
TURN, STRETCH, SHEAR = 0.17, 0.12, 0.15
"""Largest rotation in radians, relative change of size and shear of the frames of an example."""
NOISE = 0.1
"""Largest standard deviation of the noise on them."""

Example = tuple[Tensor, Digits]
"""What is read (N, ...), and the truth of each row."""


class Reader(nn.Module, ABC):
    """A network from frames or features to beliefs about digits."""

    @abstractmethod
    def beliefs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, ...) -> distributions over classes (N, 10) and over places (N, 100); see `chart`."""

    @abstractmethod
    def loss(self, x: Tensor, truth: Digits, side: int) -> Tensor:
        """() cross-entropy between the true distributions and the beliefs, nats per row."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted reader: tells the K = `number` digits of whatever it was fitted on."""

    reader: Reader
    number: int
    side: int
    """Pixels on a side of the pictures that positions are told in."""

    @torch.inference_mode()
    def read(self, x: Tensor) -> Digits:
        """The digits of x (B, T, ...): identities (B, T, K), positions (B, T, K, 2), on the CPU."""
        device = next(self.reader.parameters()).device
        parts = [self.reader.beliefs(rows.to(device)) for rows in torch.split(x.flatten(0, 1), ROWS_AT_ONCE)]
        classes, places = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        found = read_chart(classes, places, self.number, self.side)
        return Digits(*(y.reshape(*x.shape[:2], *y.shape[1:]) for y in (found.identity, found.position)))


def fit(reader: Reader, examples: Iterable[Example], side: int, *, steps: int, rate: float) -> Probe:
    """Fit a reader by `steps` of Adam, one per example, at a learning rate that rises to `rate` and falls to 0."""
    optimiser = torch.optim.Adam(reader.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    number = 0
    for _, (x, truth) in zip(range(steps), examples, strict=False):
        loss = reader.loss(x, truth, side)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        number = truth.number
    return Probe(reader.eval(), number, side)


class FeatureReader(Reader):
    """Features (N, F), standardised -> beliefs about class and about place, linearly or through one hidden layer."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: Tensor, hidden: int | None) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("std", features.std(0).clamp(min=1e-6))
        width = features.shape[-1]
        deep = [nn.Linear(width, hidden), nn.SiLU()] if hidden else []
        self.layers = nn.Sequential(*deep, nn.Linear(hidden or width, CLASSES + PLACES))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities over classes (N, 10) and over places (N, 100)."""
        logits = self.layers((features - self.mean) / self.std)
        classes, places = logits.split((CLASSES, PLACES), dim=-1)
        return classes.log_softmax(-1), places.log_softmax(-1)

    def beliefs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Reader.beliefs`."""
        classes, places = self(x)
        return classes.exp(), places.exp()

    def loss(self, x: Tensor, truth: Digits, side: int) -> Tensor:
        """See `Reader.loss`."""
        pairs = zip(chart(truth, side), self(x), strict=True)
        return torch.stack([-(true.to(x.device) * log).sum(-1).mean() for true, log in pairs]).sum()


def fit_feature_probe(
    features: Tensor, truth: Digits, side: int, *, hidden: int | None = None, steps: int = FEATURE_STEPS, seed: int = 0
) -> Probe:
    """Fit a probe to features (B, T, F), of which B x T are the examples, on the device where they are.

    truth: `Digits.of` the batch that the features were made from; side: of its pictures; hidden: width of a hidden
    layer, None for a linear probe. A level's [h, z] between its ticks is that of its last tick, so positions at those
    steps are harder to tell: look at the steps where it ticks to ask what it knows at a tick. Fit on some episodes and
    `read` others; the probe itself keeps nothing held out.
    """
    flat = features.detach().flatten(0, 1).float()
    known = truth.flat()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = FeatureReader(flat.cpu(), hidden).to(flat.device)

    def examples() -> Iterator[Example]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(len(flat), (FEATURE_ROWS,), generator=generator)
            yield flat[rows.to(flat.device)], known[rows]

    return fit(reader, examples(), side, steps=steps, rate=FEATURE_RATE)


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
    source: EpisodeSource, *, steps: int = FRAME_STEPS, seed: int = 0, device: torch.device | str = "cpu"
) -> Probe:
    """Fit a probe to true frames of `source`, training episodes with `KEYS`, each turned, stretched, blurred and noisy.

    A few frames of one clip, then of another: give generated episodes of `CLIP_LENGTH`, the rest would go unread. Half
    a minute of one CPU core. How well it reads true frames of held-out episodes is the ceiling for any prediction, and
    to be told with it.
    """
    channels, side, _ = source.image_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = FrameReader(channels)

    def examples() -> Iterator[Example]:
        generator = torch.Generator().manual_seed(seed)
        length = min(CLIP_LENGTH, source.episode_length(0))
        with RandomWindows(source, CLIPS, length, seed=seed, windows_per_episode=1, keys=KEYS) as clips:
            for batch in clips:
                frame = to_unit(batch.image[:, ::EVERY]).flatten(0, 1)
                frame, truth = disturbed(frame, Digits.of(batch)[:, ::EVERY].flat(), generator)
                yield frame.to(device), truth

    return fit(reader.to(device), examples(), side, steps=steps, rate=FRAME_RATE)


def disturbed(frame: Tensor, truth: Digits, generator: torch.Generator) -> Example:
    """Frames turned, stretched and sheared about their middle, the truth with them; then blurred, faint and noisy."""
    number, side = len(frame), frame.shape[-1]
    turn, shear, *scale = torch.rand(4, number, generator=generator) * 2 - 1
    cos, sin = (TURN * turn).cos(), (TURN * turn).sin()
    rotation = rearrange(torch.stack([cos, -sin, sin, cos], dim=-1), "n (row column) -> n row column", row=2)
    shape = torch.diag_embed(1 + STRETCH * torch.stack(scale, dim=-1))
    shape[:, 0, 1] = SHEAR * shear
    inward = rotation @ shape  # (N, 2, 2): where a pixel of the new frame comes from, both from the middle
    grid = F.affine_grid(F.pad(inward, (0, 1)), list(frame.shape), align_corners=False)
    moved = F.grid_sample(frame, grid, align_corners=False)
    middle = torch.einsum("nij,nkj->nki", torch.linalg.inv(inward), truth.position - side / 2) + side / 2
    # From none to all of a blur over 3x3 pixels (of 32x32), half to all of the brightness, none to all of `NOISE`.
    blur, gain, noise = torch.rand(3, number, 1, 1, 1, generator=generator)
    around = F.avg_pool2d(moved, 2 * (side // 25) + 1, stride=1, padding=side // 25)
    soft = moved + blur * (around - moved)
    faint = (1 + gain) / 2 * soft + NOISE * noise * torch.randn(frame.shape, generator=generator)
    return faint, Digits(truth.identity, middle)
