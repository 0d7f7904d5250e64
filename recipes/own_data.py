"""Your own data: a world model of recordings, from archives that `wmkit import` or `wmkit.data.record` has written.

    wmkit import FOLDER --out balls                          a folder of .npz files, videos, GIFs or pictures
    python recipes/own_data.py data.source=balls             train on balls/train, validate, test
    python recipes/own_data.py data.source=balls backbone=gru data.length=20
    python recipes/own_data.py data.source=a/train data.valid_source=b data.test_source=c      archives by name

docs/your_data.md is the way there from nothing. Context and horizon are halves of the shortest test episode unless
eval.context and eval.horizon say otherwise.

Claim: after 600 steps (two and a quarter minutes of one CPU core) the model has learnt the camera of that page: it
imagines 6 to 20 steps ahead with less than half of the mean image's error, and with another episode's actions that is
at least 15 % worse. The table printed at the end says how it is with yours.
"""

from __future__ import annotations

import sys

from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation import HeldOutValidation, evaluate_run
from wmkit.training import run_recipe


def config() -> RunConfig:
    """The run without overrides; `--help` lists every key."""
    return RunConfig(
        backbone="s4",
        size="small",
        data=DataConfig(length=20, batch_size=8, workers=1),
        train=TrainConfig(
            steps=600,
            lr=1e-3,
            warmup=30,
            clip=100.0,
            decode_share=0.5,
            precision="auto",
            log_every=20,
            eval_every=200,
            checkpoint_every=200,
        ),
        eval=EvalConfig(episodes=64, context=None, horizon=None),
    )


def validation(config: RunConfig) -> HeldOutValidation:
    """Refuses a run that would generate mazes, for want of an archive."""
    if config.data.source is None:
        raise ValueError(
            "data.source: name the folder of your archives, such as wmkit import writes: data.source=camera"
        )
    return HeldOutValidation(config)


if __name__ == "__main__":
    sys.exit(run_recipe(config(), after=evaluate_run, validation=validation, page=__doc__))
