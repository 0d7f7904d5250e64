"""What validations during training measure beside the loss: the registered measures that ask for it."""

from __future__ import annotations

from wmkit.config import RunConfig
from wmkit.data import EpisodeSource, open_source
from wmkit.evaluation.evaluate import choose, measure_episodes, measure_query
from wmkit.evaluation.held_out import context_and_horizon, in_batches
from wmkit.evaluation.measures.base import Measure, Setting, all_measures
from wmkit.evaluation.predictors import IMAGINED, OBSERVED
from wmkit.evaluation.rollout import joined
from wmkit.training.batches import training_source, validation_source
from wmkit.world_model import WorldModel


class HeldOutValidation:
    """Measures the first `eval.valid_reward_episodes` episodes of the held-out split, read anew each time.

    Latents are the same samples at each validation: what changes is the model. Nothing is measured where no measure
    with a `validated` metric applies.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        number = config.eval.valid_reward_episodes
        self.source = validation_source(config, like=training_source(config), episodes=number)
        self.count = min(number, self.source.num_episodes or 0)
        self.first = self.source.episode(0)
        wanted = {key for cls in all_measures().values() if _validated(cls) for key in cls.keys}
        self.keys = sorted(wanted & self.first.keys())

    def __call__(self, model: WorldModel) -> dict[str, float]:
        """`MEASURE_PREDICTOR` of every validated metric: the means of `observed` and `imagined` over episodes."""
        context, horizon = context_and_horizon(self.config)
        setting = Setting(model, context, horizon, self.config.seed, self.first, self._training)
        whole, query = (
            [one for one in choose(setting, None, whole_episodes=x) if _validated(one)] for x in (True, False)
        )
        found = []
        if whole:
            found.append(measure_episodes(setting, whole, in_batches(self.source, self.count, self.keys)))
        if query:
            batches = in_batches(self.source, self.count, self.keys)
            batch = joined([part.window(0, context + horizon) for part in batches])
            found.append(measure_query(setting, query, batch))
        return {
            f"{measure}_{name}": part.estimate(measure, name).mean
            for part in found
            for measure in part.measures
            for name in (OBSERVED, IMAGINED)
            if part.metrics[measure].validated and name in part.predictors(measure)
        }

    def _training(self, length: int) -> EpisodeSource:
        return open_source(self.config.world, seed=self.config.data.seed, split="train", length=length)


def _validated(measure: Measure | type[Measure]) -> bool:
    return any(metric.validated for metric in measure.metrics)
