"""Rewards of held-out episodes, predicted at every validation."""

import dataclasses
from pathlib import Path

import pytest
import torch

from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from wmkit.evaluation import evaluate_episodes, in_batches
from wmkit.evaluation.run import HeldOutValidation
from wmkit.training.batches import training_source, validation_source
from wmkit.training.command import train_in_folder
from wmkit.training.log import read_lines
from wmkit.training.loop import build_model
from wmkit.training.run_folder import RunFolder
from wmkit_envs import DistractingMemory, MultiDoorsKeys

BOTH = {"reward_accuracy_observed", "reward_accuracy_imagined"}


def config_of(episodes: int = 5, head: bool = True, length: int | None = None) -> RunConfig:
    every = {"log_every": 2, "eval_every": 4, "checkpoint_every": 3}
    return RunConfig(
        world=DistractingMemory(width=8, tile=4),
        backbone="gru",
        size="tiny",
        model=dataclasses.replace(ModelConfig.for_size("tiny"), reward_head=head),
        data=DataConfig(sampler="episodes", batch_size=2, episodes=4, workers=0, episode_length=length),
        train=TrainConfig(steps=6, warmup=2, threads=1, **every),
        eval=EvalConfig(horizon=None, batches=1, valid_reward_episodes=episodes),
    )


def values(run: Path, split: str) -> list[dict[str, float]]:
    return [line["values"] for line in read_lines(run / "metrics.jsonl") if line["split"] == split]


def test_validations_log_both_accuracies_which_training_does_not_feel_and_a_resumed_run_repeats(tmp_path: Path) -> None:
    config = config_of()
    train_in_folder(config, RunFolder(tmp_path / "run"), HeldOutValidation(config))
    lines = values(tmp_path / "run", "valid")
    assert len(lines) == 2
    for line in lines:
        assert line.keys() >= BOTH
        assert {round(5 * line[name], 6) % 1 for name in BOTH} == {0.0}

    train_in_folder(config, RunFolder(tmp_path / "without"))
    assert values(tmp_path / "without", "train") == values(tmp_path / "run", "train")
    assert not any(BOTH & line.keys() for line in values(tmp_path / "without", "valid"))

    expected = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    newest = tmp_path / "run" / "checkpoints" / "step-00000006" / "training.pt"
    newest.write_bytes(b"torn")  # back to the one before
    train_in_folder(config, RunFolder(tmp_path / "run"), HeldOutValidation(config))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == expected


def test_they_are_of_the_first_held_out_episodes() -> None:
    config = config_of(episodes=7)
    source = training_source(config)
    model = build_model(config, source.image_shape, source.action_dim)
    held_out = validation_source(config, like=source, episodes=7)
    assert held_out.num_episodes == 7
    expected = evaluate_episodes(model, in_batches(held_out, 7), context=15, seed=config.seed)
    found = HeldOutValidation(config)(model)
    assert found == {
        f"reward_accuracy_{name}": expected.estimate("reward_accuracy", name).mean for name in ("observed", "imagined")
    }
    assert model.training
    assert torch.is_grad_enabled()


def test_ground_truth_of_other_measures_is_not_read() -> None:
    config = dataclasses.replace(config_of(), world=MultiDoorsKeys(keys=2, tile=4))
    validation = HeldOutValidation(config)
    assert "agent_pos" in validation.first
    assert validation.keys == []


@pytest.mark.parametrize("config", [config_of(head=False), config_of(length=12)])
def test_without_a_head_or_with_episodes_cut_before_they_end_nothing_is_measured(config: RunConfig) -> None:
    source = training_source(config)
    model = build_model(config, source.image_shape, source.action_dim)
    assert HeldOutValidation(config)(model) == {}
