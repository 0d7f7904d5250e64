"""What a measure is, and the registry of measures.

A measure is one class in one file: which predictors it scores, what it needs of them, and its score against the truth.
Tables, curves, verdicts, files and comparisons read the values by name and know no measure.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.data import EpisodeSource
from wmkit.evaluation.held_out import read_episodes
from wmkit.evaluation.predictors import COPY_LAST, IMAGINED, MEAN_IMAGE, OBSERVED, SHUFFLED_ACTIONS
from wmkit.evaluation.record import Metric
from wmkit.evaluation.rollout import evaluating, groups_of_rows, observe, rows_of
from wmkit.networks import to_unit
from wmkit.registry import Classes
from wmkit.world_model import WorldModel

Scores = Mapping[str, Tensor]
"""By name of the metric: (B, T) by row and step, or (B,) of whole episodes."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known before anything is measured."""

    model: WorldModel
    context: int
    """Observed steps."""
    horizon: int
    """Imagined steps."""
    seed: int
    episode: Mapping[str, Any]
    """Arrays of the first held-out one: they show which ground truth there is."""
    open_training: Callable[[int], EpisodeSource] | None = None
    """Episodes of the training split, their first so many steps; None where there are none."""

    def training(self, length: int) -> EpisodeSource:
        """For what is fitted: training episodes, of which a world draws `length` steps. `ValueError` without any."""
        if self.open_training is None:
            raise ValueError(
                "Something that is measured must be fitted to training episodes first: say which, training="
            )
        return self.open_training(length)

    def training_batch(self, count: int, keys: Sequence[str] = ()) -> Batch:
        """The first training episodes, context and query, `keys` as extras. Raises `ValueError` as `training` does."""
        length = self.context + self.horizon
        return read_episodes(self.training(length), range(count), length, keys)

    def observed(self, batch: Batch) -> Tensor:
        """Features (B, T, F) of the model's posterior on whole episodes, in eval(), on samples drawn from the seed."""
        with evaluating(self.model):
            generator = torch.Generator().manual_seed(self.seed)
            groups = [
                observe(self.model, rows_of(batch, rows), self.context, generator) for rows in groups_of_rows(batch)
            ]
        return torch.cat([group.features for group in groups])


class Prediction:
    """What one predictor says about some rows and steps; frames are decoded once, when a measure asks for them."""

    def __init__(self, model: WorldModel, *, features: Tensor | None = None, frames: Tensor | None = None) -> None:
        self.model = model
        self._features, self._frames = features, frames
        self._whole: Prediction = self

    @property
    def features(self) -> Tensor:
        """(B, T, F): only of a model's predictions."""
        assert self._features is not None, "a baseline has frames only: give the measure needs = 'frames'"
        return self._features

    @functools.cached_property
    def frames(self) -> Tensor:
        """(B, T, C, H, W) float32, true frames in [0, 1]; predicted ones are not clamped."""
        if self._whole is not self:
            return self._whole.frames[:, -self.steps :]
        return to_unit(self.model.decode(self.features) if self._frames is None else self._frames)

    @property
    def steps(self) -> int:
        """The number of predicted steps, T."""
        known = self._frames if self._features is None else self._features
        assert known is not None, "a prediction has features or frames"
        return known.shape[1]

    def last(self, steps: int) -> Prediction:
        """The last steps alone."""
        parts = (None if part is None else part[:, -steps:] for part in (self._features, self._frames))
        found = Prediction(self.model, features=next(parts), frames=next(parts))
        found._whole = self._whole
        return found


class Measure(ABC):
    """One score of predictions against the truth. A new object is made for each evaluation."""

    name: ClassVar[str]
    """By which it is asked for; given by `register_measure`."""
    order: ClassVar[int] = 100
    """Its place in tables: smaller ones come first, equal ones by name."""
    metrics: Sequence[Metric]
    """What it measures: one or more values for each step, or for each episode."""
    predictors: Sequence[str] = (OBSERVED, IMAGINED, SHUFFLED_ACTIONS, MEAN_IMAGE, COPY_LAST)
    """Whom it scores, where they exist: names in `predictors.py` or of a `register_baseline`."""
    needs: Literal["frames", "features"] = "frames"
    """What it reads of a prediction. Of `features`, `score` gets many rows at a time, of `frames` one row."""
    keys: Sequence[str] = ()
    """Ground truth that it reads: `Batch.extras`."""
    on_context: bool = False
    """Whether context steps are scored too, where a predictor has them. The first one is not: it has no past."""
    whole_episodes: bool = False
    """Whether it is measured on whole episodes, as many as `eval.reward_episodes` says, instead of the query alone."""
    by_default: bool = True
    """Whether it is measured where nobody says what to measure; False for what takes long."""

    def applies(self, setting: Setting) -> bool:
        """Whether there is something to measure: here, whether the episodes have its `keys`."""
        return setting.episode.keys() >= set(self.keys)

    def lacks(self) -> str:
        """What it needs that is not here, as a sentence on how to get it; here: nothing, the empty string.

        Without it, `all` leaves the measure out; asking for it by name raises `ValueError` with the sentence.
        """
        return ""

    def prepare(self, setting: Setting, truth: Batch | None) -> None:  # noqa: B027  most have nothing to prepare
        """Called once before the first score. truth: the query of all rows; None where rows are read as they come."""

    @abstractmethod
    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        """How good a prediction is. truth: the same rows and steps, on the model's device."""

    def counts(self, truth: Batch) -> Scores:
        """Which steps count (B, T) bool, by metric, the same for every predictor; a metric left out counts all."""
        return {}

    def answers(self, truth: Batch) -> Mapping[str, Scores]:
        """Scores of predictors that need no model and no frames, such as `majority`.

        truth: the query, or the whole episode, of all rows; without images where rows are read as they come.
        """
        return {}


class SetMeasure(Measure):
    """A score of all rows together, such as a distance between two sets of clips.

    `score` gives each row a vector (rows, F), and `pool` judges those of all rows. What it returns has one value for
    each row, so that records, tables and comparisons need not know: see `jackknife` of `estimates.py`.
    """

    @abstractmethod
    def pool(self, metric: str, vectors: Tensor) -> Tensor:
        """Values (N,) whose mean is the score, from the vectors (N, F) of one predictor in a metric."""


MeasureClass = TypeVar("MeasureClass", bound=type[Measure])
_measures: Classes[Measure] = Classes("measure", "wmkit.evaluation.measures", "wmkit.measures")


def register_measure(name: str) -> Callable[[MeasureClass], MeasureClass]:
    """Class decorator: make a `Measure` known as `name`.

    Import its module, name it in `plugins=`, or offer it as an entry point of the group `wmkit.measures`. Raises
    `ValueError` for a name that is taken, and for a name of a metric that is.
    """

    def register(cls: MeasureClass) -> MeasureClass:
        _measures.check_free(name)
        taken = {metric.name: other for other in _measures.by_name.values() for metric in other.metrics}
        for metric in cls.metrics:
            if metric.name in taken:
                raise ValueError(
                    f"{cls.__qualname__}: {metric.name!r} is already measured by {taken[metric.name].name!r}"
                )
        _measures.add(name, cls)
        return cls

    return register


def all_measures() -> dict[str, type[Measure]]:
    """Every measure by name, in the order of tables."""
    return _measures.all()


def find_measures(names: Sequence[str]) -> list[type[Measure]]:
    """The measures called so; raises `ValueError` with the closest match and the list of names."""
    return _measures.find(names)
