"""LPIPS of imagined frames, by each of its three networks: a number of one is not a number of another."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from wmkit.batch import Batch
from wmkit.evaluation.estimates import VIDEO_RANGES
from wmkit.evaluation.lpips import NETWORKS, Lpips
from wmkit.evaluation.measures.base import Measure, Prediction, Scores, Setting, register_measure
from wmkit.evaluation.predictors import BEST_OF_N, BLACK, COPY_LAST, IMAGINED, MEAN_IMAGE, OBSERVED, OTHER_CLIP
from wmkit.evaluation.record import Metric
from wmkit.weights import missing_weights

FRAMES_AT_ONCE = 64
"""Bounds memory."""


class PerceptualDistance(Measure):
    """LPIPS of each frame, see `wmkit.evaluation.lpips`.

    Arguments:
        weights, heads: paths of the files; None: where `wmkit.weights` finds them.

    """

    network: ClassVar[str]
    order = 31
    predictors = (OBSERVED, IMAGINED, BEST_OF_N, BLACK, MEAN_IMAGE, COPY_LAST, OTHER_CLIP)
    by_default = False

    def __init__(self, weights: str | Path | None = None, heads: str | Path | None = None) -> None:
        self.weights, self.heads = weights, heads

    def lacks(self) -> str:
        """See `Measure.lacks`."""
        given = (self.weights, NETWORKS[self.network].weights), (self.heads, f"lpips_{self.network}")
        return missing_weights(*(name for path, name in given if path is None))

    def applies(self, setting: Setting) -> bool:
        """Frames of 1 or 3 channels that are not smaller than the network takes."""
        channels, *sides = setting.model.image_shape
        return channels in (1, 3) and min(sides) >= NETWORKS[self.network].smallest

    def prepare(self, setting: Setting, truth: Batch | None) -> None:
        """Load the network; raises `ValueError` as `Lpips.load` does."""
        self.distance = Lpips(self.network).load(self.weights, self.heads).to(setting.model.device)

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        frames, target = prediction.frames, truth.image
        pairs = zip(
            *(torch.split(x.flatten(0, 1), FRAMES_AT_ONCE) for x in (frames.expand_as(target), target)), strict=True
        )
        found = torch.cat([self.distance(x, y) for x, y in pairs])
        return {self.name: found.reshape(target.shape[:2])}


def _metric(network: str, label: str) -> tuple[Metric, ...]:
    return (Metric(f"lpips_{network}", "0 for equal frames", "lower", f"LPIPS 0.1, {label}", VIDEO_RANGES),)


@register_measure("lpips_alex")
class AlexDistance(PerceptualDistance):
    """By AlexNet: LPIPS as its authors compare methods."""

    network = "alex"
    metrics = _metric("alex", "AlexNet")


@register_measure("lpips_vgg")
class VggDistance(PerceptualDistance):
    """By VGG-16: as it is used for training."""

    network = "vgg"
    metrics = _metric("vgg", "VGG-16")


@register_measure("lpips_squeeze")
class SqueezeDistance(PerceptualDistance):
    """By SqueezeNet 1.1: a download of 5 MB."""

    network = "squeeze"
    metrics = _metric("squeeze", "SqueezeNet 1.1")
