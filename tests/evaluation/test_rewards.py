"""The last reward of an episode, seen and imagined."""

import dataclasses

import pytest
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.build import build_world_model
from wmkit.evaluation.rewards import has_answers, reward_accuracy
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
    found = reward_accuracy(model, [asked], context=CONTEXT)
    hits = {name: (row.hits, row.number) for name, row in found.rows.items()}
    assert hits == {"inference": (5, 5), "imagination": (3, 5), "always_1": (3, 5), "majority": (3, 5)}


def test_majority_is_the_best_constant(asked: Batch, model: WorldModel) -> None:
    rows = reward_accuracy(model, [dataclasses.replace(asked, reward=asked.reward * 0)], context=CONTEXT).rows
    assert (rows["always_1"].hits, rows["majority"].hits) == (0, 5)


def test_batches_add_up(asked: Batch, model: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = asked.reward[:, -1], 1 - asked.reward[:, -1]
    answering(model, monkeypatch, right, wrong, right, right)
    rows = reward_accuracy(model, [asked, asked], context=CONTEXT).rows
    assert (rows["inference"].share, rows["imagination"].share, rows["majority"].number) == (1.0, 0.5, 10)


def test_imagination_sees_the_context_and_actions_alone(
    asked: Batch, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    features: list[Tensor] = []
    monkeypatch.setattr(model, "predict_reward", lambda x: features.append(x) or x[:, 0])
    other = asked.image.clone()
    other[:, CONTEXT:] = 255 - other[:, CONTEXT:]
    for image in (asked.image, other):
        reward_accuracy(model, [dataclasses.replace(asked, image=image)], context=CONTEXT, seed=3)
    inferred, imagined, inferred_of_other, imagined_of_other = features
    torch.testing.assert_close(imagined, imagined_of_other, rtol=0, atol=0)
    assert (inferred - inferred_of_other).abs().max() > 1e-3


def test_the_same_seed_gives_the_same_answers_and_leaves_no_trace(asked: Batch, model: WorldModel) -> None:
    model.train()
    before = torch.get_rng_state()
    first = reward_accuracy(model, [asked], context=CONTEXT, seed=1)
    assert reward_accuracy(model, [asked], context=CONTEXT, seed=1) == first
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    model.loss(asked).total.backward()  # nothing kept from inference stands in the way


def test_verdicts_ask_for_more_than_the_majority_and_for_the_solution(
    asked: Batch, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = asked.reward[:, -1]
    answering(model, monkeypatch, *[right, 1 - right] * 10)
    found = reward_accuracy(model, [asked] * 10, context=CONTEXT)
    assert [verdict.holds for verdict in found.verdicts()] == [True, False, False]
    answering(model, monkeypatch, right, right)
    few = reward_accuracy(model, [asked], context=CONTEXT)
    assert [verdict.holds for verdict in few.verdicts()] == [False, False, True]  # 5 of 5 may be luck: low is 56 %


def test_figures_as_they_are_saved(asked: Batch, model: WorldModel) -> None:
    saved = reward_accuracy(model, [asked], context=CONTEXT).to_json()
    assert saved["majority"] == {
        "accuracy": 0.6,
        "low": pytest.approx(0.2307, abs=1e-4),
        "high": pytest.approx(0.8824, abs=1e-4),
        "episodes": 5,
    }
    assert set(saved) == {"inference", "imagination", "always_1", "majority"}


def test_episodes_that_ask_nothing_are_refused(batch: Batch, asked: Batch, model: WorldModel) -> None:
    assert has_answers(asked)
    assert not has_answers(batch)
    assert not has_answers(dataclasses.replace(asked, reward=asked.reward * 0.7))
    with pytest.raises(ValueError, match="last step is terminal, with a reward of 0 or 1"):
        reward_accuracy(model, [batch], context=CONTEXT)


def test_a_model_without_a_reward_head_is_refused(asked: Batch) -> None:
    silent = build_world_model("gru", "tiny", image_shape=(3, 8, 8), action_dim=3)
    with pytest.raises(ValueError, match="reward_head=True"):
        reward_accuracy(silent, [asked], context=CONTEXT)


def test_a_context_that_leaves_nothing_to_imagine_is_refused(asked: Batch, model: WorldModel) -> None:
    with pytest.raises(ValueError, match="horizon of at least 1"):
        reward_accuracy(model, [asked], context=asked.shape[1])
