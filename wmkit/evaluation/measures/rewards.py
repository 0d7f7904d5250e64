"""Does the model know the answer? Accuracy of the reward that ends an episode.

Some worlds end with a question: the last step's reward is 1 or 0 (Distracting Memory: was that the square of the right
colour?). The reward head's answer at that step is read in the two ways of S4WM (Deng et al. 2023, section 5.5): with
every observation up to and including the last one, and with the observations of the context and from then on only the
actions. An answer counts as 1 from 0.5 on.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.claims import Beats, Reaches
from wmkit.evaluation.measures.base import Measure, Prediction, Scores, Setting, register_measure
from wmkit.evaluation.predictors import CONSTANT, IMAGINED, MAJORITY, OBSERVED
from wmkit.evaluation.record import Metric

THRESHOLD = 0.5
ACCURACY = Metric(
    "reward_accuracy",
    unit="share",
    better="higher",
    label="last reward, 0 or 1",
    binary=True,
    headline=True,
    validated=True,
    caption="Answers of at least 0.5 count as 1; constant: always 1; majority: the best constant for these episodes.",
    claims=(
        Beats(OBSERVED, MAJORITY, surely=True),
        Beats(IMAGINED, MAJORITY, surely=True),
        Reaches(IMAGINED, 0.95),
    ),
)


@register_measure("rewards")
class RewardAccuracy(Measure):
    """How often the last reward of an episode is predicted."""

    order = 20
    metrics = (ACCURACY,)
    predictors = (OBSERVED, IMAGINED)
    needs = "features"
    whole_episodes = True

    def applies(self, setting: Setting) -> bool:
        """Whether the model predicts rewards and an episode ends for good, with a reward of 0 or 1."""
        reward, terminal = (setting.episode[key][-1:] for key in ("reward", "is_terminal"))
        return setting.model.reward is not None and _asks(torch.as_tensor(reward), torch.as_tensor(terminal))

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        """Raises `ValueError` for episodes that end otherwise."""
        if not _asks(truth.reward[:, -1], truth.is_terminal[:, -1]):
            raise ValueError("Reward accuracy needs episodes whose last step is terminal, with a reward of 0 or 1")
        assert prediction.features is not None
        answer = prediction.model.predict_reward(prediction.features[:, -1]) >= THRESHOLD
        return {ACCURACY.name: answer == (truth.reward[:, -1] >= THRESHOLD)}

    def answers(self, truth: Batch) -> Mapping[str, Scores]:
        right = truth.reward[:, -1] >= THRESHOLD
        majority = bool(right.double().mean() >= THRESHOLD)
        return {MAJORITY: {ACCURACY.name: right == majority}, CONSTANT: {ACCURACY.name: right}}


def _asks(reward: Tensor, terminal: Tensor) -> bool:
    return bool((terminal & ((reward == 0) | (reward == 1))).all())
