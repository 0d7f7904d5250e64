"""A run that takes a second: the smallest model on short ray-cast episodes, made in this process."""

from collections.abc import Callable

import pytest

from wmkit.config import DataConfig, RunConfig, TrainConfig
from wmkit.training.command import train_in_folder
from wmkit.training.loop import Summary
from wmkit.training.run_folder import RunFolder

MakeConfig = Callable[..., RunConfig]
TrainIn = Callable[..., Summary]


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    def make(
        *, data: dict[str, object] | None = None, train: dict[str, object] | None = None, **rest: object
    ) -> RunConfig:
        few = {"length": 6, "batch_size": 2, "episode_length": 15, "episodes": 4, "workers": 0}
        short = {"steps": 6, "warmup": 2, "log_every": 2, "eval_every": 4, "checkpoint_every": 3, "threads": 1}
        quick = {"backbone": "gru", "size": "tiny"}
        return RunConfig(
            **quick | rest, data=DataConfig(**few | (data or {})), train=TrainConfig(**short | (train or {}))
        )

    return make


@pytest.fixture(scope="session")
def train_in() -> TrainIn:
    return lambda config, path, validate=None: train_in_folder(config, RunFolder(path), validate)
