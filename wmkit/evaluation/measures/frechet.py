"""Frechet distances between imagined clips and true ones: FVD, and one on an encoder that is trained here.

A distance between sets has no value for a clip. Its records hold, for each clip, what the jackknife makes of it: their
mean is the distance of all clips, their standard error that of the jackknife (`estimates.jackknife`).
"""

from __future__ import annotations

import dataclasses
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from wmkit.batch import Batch
from wmkit.evaluation.clip_encoder import fit_clip_encoder
from wmkit.evaluation.estimates import jackknife
from wmkit.evaluation.frechet import frechet_distance
from wmkit.evaluation.held_out import read_episodes
from wmkit.evaluation.measures.base import Prediction, Scores, SetMeasure, Setting, register_measure
from wmkit.evaluation.predictors import BLACK, COPY_LAST, IMAGINED, MEAN_IMAGE, OBSERVED, TRAINING_CLIPS
from wmkit.evaluation.record import Metric
from wmkit.networks import to_unit
from wmkit.weights import missing_weights, open_weights

CLIP = 16
"""Frames of a clip, as FVD is mostly taken; a query that is shorter is one clip."""
I3D_SHORTEST = 10
"""Frames that I3D needs."""
I3D_SIDE = 224
LOOKED_AT = 64
"""Steps from an episode's first on that training clips of a world are from."""


def _metrics(name: str, label: str) -> tuple[Metric, ...]:
    return tuple(
        Metric(f"{name}_{end}", "0 for equal sets", "lower", f"{label}, {which} frames")
        for end, which in (("start", "first"), ("end", "last"))
    )


class ClipDistance(SetMeasure):
    """Frechet distance between the features of predicted clips and of the true ones, at both ends of the query.

    A subclass says what the features are. `training_clips`, as many true clips of the training split at the same steps,
    shows how far apart true clips lie at this number of them: a distance falls as clips are added.
    """

    predictors = (OBSERVED, IMAGINED, BLACK, MEAN_IMAGE, COPY_LAST)
    by_default = False
    shortest: int
    """Frames that a clip needs."""

    @abstractmethod
    def features(self, clip: Tensor) -> Tensor:
        """(N, F) of clips (N, T, C, H, W): uint8, or floats, true ones in [0, 1]."""

    @abstractmethod
    def open(self, setting: Setting) -> str:
        """Make ready what `features` needs, and say in a sentence what it is."""

    def applies(self, setting: Setting) -> bool:
        """Clips that are long enough."""
        return setting.horizon >= self.shortest

    def prepare(self, setting: Setting, truth: Batch | None) -> None:
        """Read the true clips, warn where there are few. Raises `ValueError` as `open` does."""
        assert truth is not None, "clips are of the query"
        number, self.length = len(truth.image), min(CLIP, setting.horizon)
        network, self.device = self.open(setting), setting.model.device
        self.metrics = type(self).metrics[: 1 if setting.horizon <= CLIP else 2]
        self.true = self._read(truth.image)
        width = self.true[self.metrics[0].name].shape[1]
        caption = f"{number} clips of {self.length} frames of the query, {width} features: {network}"
        if number <= width:
            few = f"{number} clips are few for {width} features: compare values of as many clips only"
            warnings.warn(f"{self.name}: {few}", stacklevel=2)
            caption += f" {few.capitalize()}."
        self.metrics = [dataclasses.replace(metric, caption=caption) for metric in self.metrics]
        self.floor = self._training(setting, number)

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        return self._read(prediction.frames.expand_as(truth.image))

    def pool(self, metric: str, vectors: Tensor) -> Tensor:
        ours, true = (x.cpu().double().numpy() for x in (vectors, self.true[metric]))
        return torch.from_numpy(jackknife(lambda rows: frechet_distance(ours[rows], true[rows]), len(true)))

    def answers(self, truth: Batch) -> Mapping[str, Scores]:
        if self.floor is None:
            return {}
        return {TRAINING_CLIPS: {name: self.pool(name, vectors) for name, vectors in self.floor.items()}}

    @torch.inference_mode()
    def _read(self, image: Tensor) -> dict[str, Tensor]:
        """Features (N, F) of both ends of image (N, H, C, h, w), clip by clip."""
        ends = (image[:, : self.length], image[:, -self.length :])
        return {
            metric.name: torch.cat([self.features(clip.to(self.device)) for clip in torch.split(end, 1)]).cpu()
            for metric, end in zip(self.metrics, ends, strict=False)
        }

    def _training(self, setting: Setting, number: int) -> dict[str, Tensor] | None:
        """Features of the query's ends in as many training episodes; None where there are not so many so long ones."""
        if setting.open_training is None:
            return None
        length = setting.context + setting.horizon
        source = setting.training(length)
        there = range(number if source.num_episodes is None else source.num_episodes)
        long = [index for index in there if source.episode_length(index) >= length][:number]
        if len(long) < number:
            return None
        parts = [self._read(read_episodes(source, [index], length).image[:, setting.context :]) for index in long]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@register_measure("fvd")
class FrechetVideoDistance(ClipDistance):
    """FVD (Unterthiner et al. 2019): on the 400 logits of I3D, trained on Kinetics-400, frames stretched to 224x224.

    The network is a TorchScript file, which brings its own code: it runs only if its hash is that of the registered
    one.

    Arguments:
        weights: path of the file; None: where `wmkit.weights` finds it.
        file: name of the registered file, for another one with the same call.

    """

    order = 32
    metrics: Sequence[Metric] = _metrics("fvd", "FVD")
    shortest = I3D_SHORTEST

    def __init__(self, weights: str | Path | None = None, file: str = "i3d") -> None:
        self.weights, self.file = weights, file

    def lacks(self) -> str:
        """See `Measure.lacks`."""
        return "" if self.weights is not None else missing_weights(self.file)

    def applies(self, setting: Setting) -> bool:
        """Clips of 1 or 3 channels and at least 10 frames."""
        return super().applies(setting) and setting.model.image_shape[0] in (1, 3)

    def open(self, setting: Setting) -> str:
        with open_weights(self.file, self.weights) as file, warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "`torch.jit.load`", DeprecationWarning
            )  # what is published is of this form
            self.network = torch.jit.load(file, map_location=setting.model.device).eval()  # type: ignore[no-untyped-call]  # torch's
        of = "I3D's logits" if self.file == "i3d" else f"what the network {self.file} returns"
        return f"{of}, frames stretched to {I3D_SIDE}x{I3D_SIDE}, float32."

    def features(self, clip: Tensor) -> Tensor:
        """I3D is called as in `universome/fvd-comparison`: frames are stretched and scaled to [-1, 1] before it."""
        frames = to_unit(clip.flatten(0, 1)).clamp(0, 1)
        frames = F.interpolate(frames, (I3D_SIDE, I3D_SIDE), mode="bilinear").expand(-1, 3, -1, -1)
        video = (2 * frames - 1).reshape(*clip.shape[:2], *frames.shape[1:]).transpose(1, 2)  # (N, 3, T, 224, 224)
        return self.network(video, rescale=False, resize=False, return_features=True)


@register_measure("fd_corruptions")
class CorruptionDistance(ClipDistance):
    """On an encoder that learns, from the run's training clips, to tell what is wrong with a clip. It is not FVD.

    Made for one data set, it compares models of that data set; no published figure is of it.
    """

    order = 33
    metrics: Sequence[Metric] = _metrics("fd_corruptions", "FD (corruptions)")
    shortest = 4

    def applies(self, setting: Setting) -> bool:
        """Where there are training episodes."""
        return super().applies(setting) and setting.open_training is not None

    def open(self, setting: Setting) -> str:
        source = setting.training(min(setting.context + setting.horizon, max(LOOKED_AT, self.length)))
        if tuple(source.image_shape) != tuple(setting.model.image_shape):
            raise ValueError(
                f"The encoder of {self.name} is trained on the run's world, whose images are {source.image_shape}; the "
                f"held-out ones are {setting.model.image_shape}"
            )
        encoder = fit_clip_encoder(source, self.length)
        self.encoder = encoder.to(setting.model.device)
        return f"an encoder trained here to tell corruptions, weights {encoder.digest}."

    def features(self, clip: Tensor) -> Tensor:
        """See `ClipEncoder`."""
        return self.encoder(clip)
