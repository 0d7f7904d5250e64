"""The last reward of an episode, seen and imagined."""

import dataclasses

import pytest
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.build import build_world_model
from wmkit.evaluation import Measurements, evaluate_episodes
from wmkit.evaluation.predictors import CONSTANT, IMAGINED, MAJORITY, OBSERVED
from wmkit.world_model import WorldModel

CONTEXT = 6


@pytest.fixture
def asked(batch: Batch) -> Batch:
    """The five episodes of `batch`, the last step of each terminal and three of them rewarded."""
    reward, terminal = batch.reward.clone(), batch.is_terminal.clone()
    reward[:3, -1] = 1
    terminal[:, -1] = True
    return dataclasses.replace(batch, reward=reward, is_terminal=terminal)


@pytest.fixture
def model() -> WorldModel:
    return build_world_model("s4", "tiny", image_shape=(3, 8, 8), action_dim=3, reward_head=True)


def measured(model: WorldModel, *batches: Batch, seed: int = 0) -> Measurements:
    return evaluate_episodes(model, batches, context=CONTEXT, measures=["rewards"], seed=seed)


def right(found: Measurements, predictor: str) -> tuple[int, int]:
    values = found.values("reward_accuracy", predictor)
    return int(values.sum()), len(values)


def answering(model: WorldModel, monkeypatch: pytest.MonkeyPatch, *answers: Tensor) -> None:
    """Let the model predict these rewards, first the inferred ones, then the imagined ones."""
    queue = iter(answers)
    monkeypatch.setattr(model, "predict_reward", lambda features: next(queue))


def test_accuracy_counts_answers_on_the_right_side_of_a_half(
    asked: Batch, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    inferred = torch.tensor([0.5, 0.9, 7.0, 0.49, -3.0])
    imagined = torch.tensor([0.4, 0.9, 0.9, 0.6, 0.1])
    answering(model, monkeypatch, inferred, imagined)
    found = measured(model, asked)
    hits = {name: right(found, name) for name in found.predictors("reward_accuracy")}
    assert hits == {OBSERVED: (5, 5), IMAGINED: (3, 5), CONSTANT: (3, 5), MAJORITY: (3, 5)}


def test_majority_is_the_best_constant(asked: Batch, model: WorldModel) -> None:
    found = measured(model, dataclasses.replace(asked, reward=asked.reward * 0))
    assert (right(found, CONSTANT), right(found, MAJORITY)) == ((0, 5), (5, 5))


def test_batches_add_up(asked: Batch, model: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    true, wrong = asked.reward[:, -1], 1 - asked.reward[:, -1]
    answering(model, monkeypatch, true, wrong, true, true)
    found = measured(model, asked, asked)
    assert [right(found, name) for name in (OBSERVED, IMAGINED)] == [(10, 10), (5, 10)]
    assert right(found, MAJORITY)[1] == 10


def test_imagination_sees_the_context_and_actions_alone(
    asked: Batch, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    features: list[Tensor] = []
    monkeypatch.setattr(model, "predict_reward", lambda x: features.append(x) or x[:, 0])
    other = asked.image.clone()
    other[:, CONTEXT:] = 255 - other[:, CONTEXT:]
    for image in (asked.image, other):
        measured(model, dataclasses.replace(asked, image=image), seed=3)
    inferred, imagined, inferred_of_other, imagined_of_other = features
    torch.testing.assert_close(imagined, imagined_of_other, rtol=0, atol=0)
    assert (inferred - inferred_of_other).abs().max() > 1e-3


def test_the_same_seed_gives_the_same_answers_and_leaves_no_trace(asked: Batch, model: WorldModel) -> None:
    model.train()
    before = torch.get_rng_state()
    first = measured(model, asked, seed=1)
    assert measured(model, asked, seed=1).frame.equals(first.frame)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    model.loss(asked).total.backward()  # nothing kept from inference stands in the way


def test_verdicts_ask_for_more_than_the_majority_and_for_the_solution(
    asked: Batch, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = asked.reward[:, -1]
    answering(model, monkeypatch, *[true, 1 - true] * 10)
    assert [verdict.holds for verdict in measured(model, *[asked] * 10).verdicts] == [True, False, False]
    answering(model, monkeypatch, true, true)
    few = measured(model, asked)
    assert [verdict.holds for verdict in few.verdicts] == [False, False, True]  # 5 of 5 may be luck: low is 56 %
    majority = few.estimate("reward_accuracy", MAJORITY)
    assert (majority.mean, majority.low, majority.high) == pytest.approx((0.6, 0.2307, 0.8824), abs=1e-4)


def test_episodes_that_ask_nothing_are_refused(batch: Batch, asked: Batch, model: WorldModel) -> None:
    for silent in (batch, dataclasses.replace(asked, reward=asked.reward * 0.7)):
        assert evaluate_episodes(model, [silent], context=CONTEXT).measures == []
        with pytest.raises(ValueError, match="'rewards' does not apply"):
            measured(model, silent)
        with pytest.raises(ValueError, match="last step is terminal, with a reward of 0 or 1"):
            measured(model, asked, silent)


def test_a_model_without_a_reward_head_is_refused(asked: Batch) -> None:
    silent = build_world_model("gru", "tiny", image_shape=(3, 8, 8), action_dim=3)
    with pytest.raises(ValueError, match="'rewards' does not apply"):
        measured(silent, asked)


def test_a_context_that_leaves_nothing_to_imagine_is_refused(asked: Batch, model: WorldModel) -> None:
    with pytest.raises(ValueError, match="horizon of at least 1"):
        evaluate_episodes(model, [asked], context=asked.shape[1], measures=["rewards"])
