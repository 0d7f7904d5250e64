"""The error of predicted frames, in the unit of the S4WM paper, and what is reported about it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wmkit.networks.dreamer import to_unit

NORMAL_95 = 1.96
"""Half the width of a 95 % interval of the standard normal."""


def frame_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum over C, H, W of (prediction - target)^2, pixels in [0, 1] -> (B, T) float32.

    target (B, T, C, H, W), prediction the same or what broadcasts to it; uint8 in 0..255 or float in [0, 1]. The sum,
    not the mean, is the unit of the S4WM paper's tables (Deng et al., 2023); divide by C H W for the per-pixel mean.
    Predictions are not clamped. Works row by row, so that uint8 episodes are never all floats at once.
    """
    prediction = prediction.expand_as(target)
    rows = [(to_unit(a) - to_unit(b)).square().sum(dim=(-3, -2, -1)) for a, b in zip(prediction, target, strict=True)]
    return torch.stack(rows)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over episodes with its 95 % interval: mean +- half_width."""

    mean: float
    half_width: float


@dataclasses.dataclass(frozen=True)
class Errors:
    """Errors of one predictor, (N, T): episodes by time steps, in the unit of `frame_error`."""

    per_episode: Tensor

    def __post_init__(self) -> None:
        if self.per_episode.ndim != 2:
            raise ValueError(f"Errors: expected (episodes, steps), got shape {tuple(self.per_episode.shape)}")

    def __len__(self) -> int:
        return self.per_episode.shape[1]

    def mean(self) -> Tensor:
        """The per-step curve (T,): mean over episodes."""
        return self.per_episode.double().mean(dim=0)

    def half_width(self) -> Tensor:
        """1.96 s / sqrt(N) per step (T,): normal approximation over episodes; 0 for a single episode."""
        return _half_width(self.per_episode.double())

    def over(self, first: int, last: int) -> Estimate:
        """Steps first..last, counted from 1, inclusive: each episode's mean, then mean and interval over them."""
        assert 1 <= first <= last <= len(self), f"steps {first}..{last} of {len(self)}"
        means = self.per_episode[:, first - 1 : last].double().mean(dim=1)
        return _estimate(means)

    def at(self, counted: Tensor) -> Estimate:
        """Steps that counted (N, T) bool picks, at least one of each episode: its mean, then mean and interval."""
        assert bool(counted.any(dim=1).all()), "an episode without a step that counts"
        means = (self.per_episode.double() * counted).sum(dim=1) / counted.sum(dim=1)
        return _estimate(means)

    def whole(self) -> Estimate:
        """The estimate over all steps."""
        return self.over(1, len(self))


def _estimate(means: Tensor) -> Estimate:
    """From one mean of each episode (N,)."""
    return Estimate(float(means.mean()), float(_half_width(means)))


def _half_width(values: Tensor) -> Tensor:
    """Over the first axis: episodes are independent, steps of one episode are not."""
    count = values.shape[0]
    if count == 1 or values.numel() == 0:  # no step: a level that does not tick within a short horizon
        return torch.zeros_like(values[0])
    return NORMAL_95 * values.std(dim=0) / count**0.5
