"""Does the model know the answer? Accuracy of the reward that ends an episode, seen and imagined.

Some worlds end with a question: the last step's reward is 1 or 0 (Distracting Memory: was that the square of the right
colour?). The reward head's answer at that step is read in the two ways of S4WM (Deng et al. 2023, section 5.5):
*inference*, with every observation up to and including the last one, and *imagination*, with the observations of the
context and from then on only the actions. An answer counts as 1 from 0.5 on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.proportion import Proportion
from wmkit.evaluation.rollout import check_lengths, evaluating, imagine, observe
from wmkit.evaluation.verdict import Verdict
from wmkit.world_model import WorldModel

INFERENCE, IMAGINATION, ALWAYS_ONE, MAJORITY = "inference", "imagination", "always_1", "majority"
THRESHOLD = 0.5
SOLVED = 0.95


@dataclasses.dataclass(frozen=True)
class RewardAccuracy:
    """How often the last reward of an episode was predicted: by the model, and by answers that need none."""

    rows: dict[str, Proportion]
    """`inference`, `imagination`; `always_1` and `majority`, the best constant answer to these very episodes."""

    def verdicts(self) -> list[Verdict]:
        """Is the model better than any constant, and has it solved the task?"""
        return [*(self._beats_majority(name) for name in (INFERENCE, IMAGINATION)), self._solved()]

    def _beats_majority(self, name: str) -> Verdict:
        ours, theirs = self.rows[name], self.rows[MAJORITY].share
        claim = f"last rewards by {name} are better than the majority answer"
        return Verdict(claim, ours.interval()[0] > theirs, f"{ours} against {theirs:.1%}")

    def _solved(self) -> Verdict:
        imagined = self.rows[IMAGINATION]
        claim = f"imagination gets at least {SOLVED:.0%} of the last rewards"
        return Verdict(claim, imagined.share >= SOLVED, str(imagined))

    def to_json(self) -> dict[str, dict[str, float]]:
        """Per row `accuracy`, `low`, `high` (95 %, Wilson) and `episodes`."""
        return {
            name: {"accuracy": row.share, "low": row.interval()[0], "high": row.interval()[1], "episodes": row.number}
            for name, row in self.rows.items()
        }


def has_answers(batch: Batch) -> bool:
    """Whether every row ends for good, with a reward of 0 or 1: then there is something to predict."""
    last = batch.reward[:, -1]
    return bool((batch.is_terminal[:, -1] & ((last == 0) | (last == 1))).all())


def reward_accuracy(model: WorldModel, batches: Iterable[Batch], *, context: int, seed: int = 0) -> RewardAccuracy:
    """Accuracy over all rows of `batches`: whole episodes that end with a reward of 0 or 1, read batch by batch.

    Latents are samples, drawn from `seed`. Raises `ValueError` for a model without a reward head, for episodes that
    end otherwise, and for a context that leaves nothing to imagine.
    """
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        groups = [_answers(model, batch, context, generator) for batch in batches]
    answers = {name: torch.cat([group[name] for group in groups]) for name in groups[0]}
    truth = answers.pop("truth")
    answers[ALWAYS_ONE] = torch.ones_like(truth)
    answers[MAJORITY] = torch.full_like(truth, bool(truth.double().mean() >= THRESHOLD))
    return RewardAccuracy(
        {name: Proportion(int((answer == truth).sum()), len(truth)) for name, answer in answers.items()}
    )


def _answers(model: WorldModel, batch: Batch, context: int, generator: torch.Generator) -> dict[str, Tensor]:
    """True, inferred and imagined answers, each (B,) bool on the CPU."""
    check_lengths(batch, context, batch.shape[1] - context)
    if not has_answers(batch):
        raise ValueError("Reward accuracy needs whole episodes whose last step is terminal, with a reward of 0 or 1")
    observed = observe(model, batch, context, generator)
    imagined = imagine(model, observed, batch.action[:, context:])
    return {
        "truth": batch.reward[:, -1].cpu() >= THRESHOLD,
        INFERENCE: model.predict_reward(observed.features[:, -1]).cpu() >= THRESHOLD,
        IMAGINATION: model.predict_reward(imagined[:, -1]).cpu() >= THRESHOLD,
    }
