"""Which digits do frames show, and where? Read by a probe that was fitted to true frames, from every predictor's.

How well it reads true frames is the ceiling: see the predictor `true_frames`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from wmkit.batch import Batch
from wmkit.evaluation.digits.probe import CLIP_LENGTH, Probe, fit_frame_probe
from wmkit.evaluation.digits.truth import IDENTITY, KEYS, POSITION, Digits, judge
from wmkit.evaluation.estimates import VIDEO_RANGES
from wmkit.evaluation.measures.base import Measure, Prediction, Scores, Setting, register_measure
from wmkit.evaluation.predictors import BEST_OF_N, BLACK, COPY_LAST, IMAGINED, MEAN_IMAGE, OTHER_CLIP, TRUE_FRAMES
from wmkit.evaluation.record import Metric

SOURCES = ("scikit-learn's", "MNIST's")
"""By the number of `digit_source`."""


@register_measure("digits")
class DigitAccuracy(Measure):
    """Share of the digits that are named right, and the distance to them in pixels."""

    order = 40
    metrics: Sequence[Metric] = (
        Metric(IDENTITY, "share", "higher", "digits named right, read by a probe", VIDEO_RANGES),
        Metric(POSITION, "pixels", "lower", "distance to the digits, read by a probe", VIDEO_RANGES),
    )
    predictors = (IMAGINED, BEST_OF_N, BLACK, MEAN_IMAGE, COPY_LAST, OTHER_CLIP, TRUE_FRAMES)
    keys = KEYS
    by_default = False

    def __init__(self, probe: Probe | None = None) -> None:
        self.probe = probe
        """Fitted already; None: to the training split, when it is needed."""

    def prepare(self, setting: Setting, truth: Batch | None) -> None:
        """Fit the probe; raises `ValueError` where the training frames have another shape."""
        if "digit_source" in setting.episode:
            digits = SOURCES[int(np.ravel(setting.episode["digit_source"])[0])]
            self.metrics = [dataclasses.replace(metric, caption=f"Digits: {digits}.") for metric in type(self).metrics]
        if self.probe is None:
            source = setting.training(CLIP_LENGTH)
            if tuple(source.image_shape) != tuple(setting.model.image_shape):
                raise ValueError(
                    f"The probe of digits is fitted to the run's world, whose images are {source.image_shape}; the "
                    f"held-out ones are {setting.model.image_shape}"
                )
            self.probe = fit_frame_probe(source, seed=setting.seed)

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        assert self.probe is not None, "prepare comes first"
        return judge(self.probe.read(prediction.frames), Digits.of(truth.to("cpu")))
