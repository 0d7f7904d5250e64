"""Validation during training: accuracy of the last rewards of held-out episodes, observed and imagined."""

from __future__ import annotations

from wmkit.config import RunConfig
from wmkit.evaluation.held_out import in_batches, query_of
from wmkit.evaluation.rewards import IMAGINATION, INFERENCE, has_answers, reward_accuracy
from wmkit.training.batches import training_source, validation_source
from wmkit.world_model import WorldModel


class RewardValidation:
    """The first `eval.valid_reward_episodes` episodes of the held-out split, read anew each time.

    Latents are the same samples at each validation: what changes is the model. Nothing is measured where the model
    predicts no rewards or where episodes do not end with a reward of 0 or 1.
    """

    def __init__(self, config: RunConfig) -> None:
        assert config.model is not None, "filled in when the config was made"
        self.config = config
        number = config.eval.valid_reward_episodes
        self.source = validation_source(config, like=training_source(config), episodes=number)
        self.count = min(number, self.source.num_episodes or 0)
        self.applies = config.model.reward_head and has_answers(next(in_batches(self.source, 1)))

    def __call__(self, model: WorldModel) -> dict[str, float]:
        """`reward_accuracy_inference` and `reward_accuracy_imagination`, shares in [0, 1]."""
        if not self.applies:
            return {}
        context, _ = query_of(self.config)
        batches = in_batches(self.source, self.count)
        rows = reward_accuracy(model, batches, context=context, seed=self.config.seed).rows
        return {f"reward_accuracy_{name}": rows[name].share for name in (INFERENCE, IMAGINATION)}
