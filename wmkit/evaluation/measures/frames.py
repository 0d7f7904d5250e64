"""The squared error of predicted frames, in the unit of the S4WM paper."""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.claims import Beats, Costs, ShareOf
from wmkit.evaluation.estimates import FAR, MIDDLE
from wmkit.evaluation.measures.base import Measure, Prediction, Scores, register_measure
from wmkit.evaluation.predictors import (
    COPY_LAST,
    FROZEN,
    IMAGINED,
    INITIAL_MAP,
    MEAN_IMAGE,
    NO_MEMORY,
    OBSERVED,
    RANDOM_FRAME,
    SHUFFLED_ACTIONS,
)
from wmkit.evaluation.record import Metric
from wmkit.networks import to_unit

ERROR = Metric(
    "frame_error",
    unit="sum over H, W, C of squares, pixels in [0, 1]",
    better="lower",
    caption="Divide by the number of pixels and channels for their mean.",
    claims=(
        ShareOf(OBSERVED, MEAN_IMAGE, 0.40),
        Beats(IMAGINED, COPY_LAST, MIDDLE),
        Beats(IMAGINED, RANDOM_FRAME, FAR),
        Beats(IMAGINED, MEAN_IMAGE, MIDDLE),
        Costs(SHUFFLED_ACTIONS, IMAGINED, 1.15, MIDDLE),
        Beats(IMAGINED, INITIAL_MAP),
    ),
)


@register_measure("frames")
class FrameError(Measure):
    """Sum over C, H, W of (prediction - target)^2; see `frame_error`."""

    order = 0
    metrics = (ERROR,)
    predictors = (
        OBSERVED,
        IMAGINED,
        SHUFFLED_ACTIONS,
        NO_MEMORY,
        MEAN_IMAGE,
        RANDOM_FRAME,
        COPY_LAST,
        INITIAL_MAP,
        FROZEN,
    )
    on_context = True

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        return {ERROR.name: frame_error(prediction.frames, truth.image)}


def frame_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum over C, H, W of (prediction - target)^2, pixels in [0, 1] -> (B, T) float32.

    target (B, T, C, H, W), prediction the same or what broadcasts to it; uint8 in 0..255 or float in [0, 1]. The sum,
    not the mean, is the unit of the S4WM paper's tables (Deng et al., 2023); divide by C H W for the per-pixel mean.
    Predictions are not clamped. Works row by row, so that uint8 episodes are never all floats at once.
    """
    prediction = prediction.expand_as(target)
    rows = [(to_unit(a) - to_unit(b)).square().sum(dim=(-3, -2, -1)) for a, b in zip(prediction, target, strict=True)]
    return torch.stack(rows)
