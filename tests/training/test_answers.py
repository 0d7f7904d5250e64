"""Rewards of held-out episodes, predicted at every validation."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wmkit.config import EvalConfig, RunConfig
from wmkit.evaluation.held_out import in_batches
from wmkit.evaluation.rewards import reward_accuracy
from wmkit.sizes import ModelConfig
from wmkit.training.answers import HeldOutAnswers
from wmkit.training.batches import training_source, validation_source
from wmkit.training.loop import Summary, build_model
from wmkit.training.metrics import read_lines
from wmkit_envs import DistractingMemory

MakeConfig = Callable[..., RunConfig]
TrainIn = Callable[[RunConfig, Path], Summary]
BOTH = {"reward_accuracy_inference", "reward_accuracy_imagination"}


@pytest.fixture
def make(make_config: MakeConfig) -> MakeConfig:
    def make(answers: int = 5, head: bool = True, **data: object) -> RunConfig:
        return make_config(
            world=DistractingMemory(width=8, tile=4),
            model=dataclasses.replace(ModelConfig.for_size("tiny"), reward_head=head),
            data={"sampler": "episodes", "episode_length": None} | data,
            eval=EvalConfig(horizon=None, batches=1, valid_reward_episodes=answers),
        )

    return make


def values(run: Path, split: str) -> list[dict[str, float]]:
    return [line["values"] for line in read_lines(run / "metrics.jsonl") if line["split"] == split]


def test_validations_log_both_accuracies(make: MakeConfig, train_in: TrainIn, tmp_path: Path) -> None:
    train_in(make(), tmp_path / "run")
    lines = values(tmp_path / "run", "valid")
    assert len(lines) == 2
    for line in lines:
        assert line.keys() >= BOTH
        assert {round(5 * line[name], 6) % 1 for name in BOTH} == {0.0}


def test_training_does_not_feel_the_questions(make: MakeConfig, train_in: TrainIn, tmp_path: Path) -> None:
    train_in(make(answers=3), tmp_path / "few")
    train_in(make(answers=11), tmp_path / "many")
    assert values(tmp_path / "few", "train") == values(tmp_path / "many", "train")


def test_a_resumed_run_repeats_them(make: MakeConfig, train_in: TrainIn, tmp_path: Path) -> None:
    config = make()
    train_in(config, tmp_path / "run")
    expected = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    newest = tmp_path / "run" / "checkpoints" / "step-00000006" / "training.pt"
    newest.write_bytes(b"torn")  # back to the one before
    train_in(config, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == expected


def test_they_are_of_the_first_held_out_episodes(make: MakeConfig) -> None:
    config = make(answers=7)
    source = training_source(config)
    model = build_model(config, source.image_shape, source.action_dim)
    held_out = validation_source(config, like=source, episodes=7)
    assert held_out.num_episodes == 7
    rows = reward_accuracy(model, in_batches(held_out, 7), context=15, seed=config.seed).rows
    found = HeldOutAnswers(config, source).values(model)
    assert found == {f"reward_accuracy_{name}": rows[name].share for name in ("inference", "imagination")}
    assert model.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("options", [{"head": False}, {"episode_length": 12}])
def test_where_nothing_is_asked_nothing_is_said(make: MakeConfig, options: dict[str, object]) -> None:
    config = make(**options)  # without a head; with episodes that are cut before they end
    source = training_source(config)
    model = build_model(config, source.image_shape, source.action_dim)
    assert HeldOutAnswers(config, source).values(model) == {}
