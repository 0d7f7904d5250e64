"""What a measure is, and the registry of measures.

A measure is one class in one file: which predictors it scores, what it needs of them, and its score against the truth.
Tables, curves, verdicts, files and comparisons read the values by name and know no measure.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import ClassVar, Literal, TypeVar

from torch import Tensor

from wmkit.batch import Batch
from wmkit.data import Episode, EpisodeSource
from wmkit.evaluation.predictors import COPY_LAST, IMAGINED, MEAN_IMAGE, OBSERVED, SHUFFLED_ACTIONS
from wmkit.evaluation.record import Metric
from wmkit.networks.dreamer import to_unit
from wmkit.world_model import WorldModel

GROUP = "wmkit.measures"
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
    episode: Episode
    """The first held-out one: it shows which ground truth there is."""
    training: EpisodeSource | None = None
    """Episodes of the training split; None where the held-out ones are from elsewhere."""


class Prediction:
    """What one predictor says about some rows and steps; frames are decoded when a measure asks for them."""

    def __init__(self, model: WorldModel, *, features: Tensor | None = None, frames: Tensor | None = None) -> None:
        self.model = model
        self.features = features
        """(B, T, F); None for a predictor that is no model."""
        self._frames = frames

    @functools.cached_property
    def frames(self) -> Tensor:
        """(B, T, C, H, W) float32, true frames in [0, 1]; predicted ones are not clamped."""
        if self._frames is not None:
            return to_unit(self._frames)
        assert self.features is not None, "a prediction has features or frames"
        return to_unit(self.model.decode(self.features))

    def last(self, steps: int) -> Prediction:
        """The last steps alone."""
        features = None if self.features is None else self.features[:, -steps:]
        known = self._frames if self._frames is not None else self.__dict__.get("frames")
        return Prediction(self.model, features=features, frames=None if known is None else known[:, -steps:])


class Measure(ABC):
    """One score of predictions against the truth. A new object is made for each evaluation."""

    name: ClassVar[str]
    """By which it is asked for; given by `register_measure`."""
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

    def prepare(self, setting: Setting, truth: Batch | None) -> None:  # noqa: B027
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


MeasureClass = TypeVar("MeasureClass", bound=type[Measure])
_measures: dict[str, type[Measure]] = {}


def register_measure(name: str) -> Callable[[MeasureClass], MeasureClass]:
    """Class decorator: make a `Measure` known as `name`.

    Import its module, name it in `plugins=`, or offer it as an entry point of the group `wmkit.measures`. Raises
    `ValueError` for a name that is taken, and for a name of a metric that is.
    """

    def register(cls: MeasureClass) -> MeasureClass:
        taken = {metric.name: other for other in _measures.values() for metric in other.metrics}
        if name in _measures:
            raise ValueError(f"Measure {name!r} is already registered by {_measures[name].__module__}")
        for metric in cls.metrics:
            if metric.name in taken:
                raise ValueError(
                    f"{cls.__qualname__}: {metric.name!r} is already measured by {taken[metric.name].name!r}"
                )
        cls.name = name
        _measures[name] = cls
        return cls

    return register


def all_measures() -> dict[str, type[Measure]]:
    """Every measure by name: those of wmkit in the order of tables, then the others."""
    _load_entry_points()
    return dict(_measures)


def find_measures(names: Sequence[str]) -> list[type[Measure]]:
    """The measures called so; raises `ValueError` with the closest match and the list of names."""
    known = all_measures()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"Unknown measure {name!r}.{hint} There are {', '.join(known)}.")
    return [known[name] for name in names]


@functools.cache
def _load_entry_points() -> None:
    """Import those of wmkit, then what installed packages offer; importing runs their decorators."""
    import wmkit.evaluation.measures  # noqa: F401

    for point in metadata.entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # importing runs another package's code
            raise ValueError(
                f"the installed entry point {point.name} = {point.value} of group {GROUP} does not load: "
                f"{type(error).__name__}: {error}. Repair or uninstall the package that brings it."
            ) from error
