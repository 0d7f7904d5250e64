"""The squared error of frames told apart by what can be remembered: shown in the context, or never seen before."""

from __future__ import annotations

from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.claims import Beats
from wmkit.evaluation.estimates import END, MIDDLE, NEAR
from wmkit.evaluation.measures.base import Measure, Prediction, Scores, Setting, register_measure
from wmkit.evaluation.measures.frames import ERROR, frame_error
from wmkit.evaluation.predictors import COPY_LAST, IMAGINED, MEAN_IMAGE, NO_MEMORY, SHUFFLED_ACTIONS
from wmkit.evaluation.record import Metric

KEY = "first_seen"
MOST, FEW = 0.9, 0.5
"""Shares of the view: a frame with more than the first is seen, one with less than the second is not."""

RANGES = (NEAR, MIDDLE, END)

SEEN = Metric(
    "frame_error_seen",
    unit=ERROR.unit,
    better="lower",
    ranges=RANGES,
    label="error of frames seen in the context",
    caption=f"More than {MOST:.0%} of the view's walls were in view in the context: this can be remembered.",
    claims=(
        Beats(IMAGINED, NO_MEMORY, MIDDLE, surely=True),
        Beats(IMAGINED, NO_MEMORY, END, surely=True),
        Beats(IMAGINED, NO_MEMORY, surely=True),
        Beats(IMAGINED, MEAN_IMAGE, MIDDLE),
        Beats(IMAGINED, MEAN_IMAGE, END),
    ),
)
UNSEEN = Metric(
    "frame_error_unseen",
    unit=ERROR.unit,
    better="lower",
    ranges=RANGES,
    label="error of frames not seen in the context",
    caption=f"Less than {FEW:.0%} of the view's walls were in view in the context: memory is of no use.",
)


@register_measure("recall")
class Recall(Measure):
    """`frame_error`, of the steps that show what the context showed, and of those that do not."""

    order = 5
    metrics = (SEEN, UNSEEN)
    predictors = (IMAGINED, SHUFFLED_ACTIONS, NO_MEMORY, MEAN_IMAGE, COPY_LAST)
    keys = (KEY,)

    def prepare(self, setting: Setting, truth: Batch | None) -> None:
        """Remember where the context ends."""
        self._context = setting.context

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        error = frame_error(prediction.frames, truth.image)
        return {SEEN.name: error, UNSEEN.name: error}

    def counts(self, truth: Batch) -> Scores:
        share = seen_share(truth.extras[KEY], self._context)
        return {SEEN.name: share > MOST, UNSEEN.name: share < FEW}


def seen_share(first_seen: Tensor, context: int) -> Tensor:
    """(B, T): the share of the view whose walls were in view in the context, from `first_seen` (B, T, rays)."""
    return (first_seen < context).float().mean(-1)
