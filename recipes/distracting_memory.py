r"""Distracting Memory: one colour seen at the far end of a hall of other colours decides the last reward.

    python recipes/distracting_memory.py                                     # S4, width 16, tiles of 4 pixels
    python recipes/distracting_memory.py backbone=gru                        # or transformer_xl, or one of your own
    python recipes/distracting_memory.py world.width=32 model.reward_scale=20 train.steps=8000
                                             # any even width: the one reward of an episode weighs less the longer it is
    python recipes/distracting_memory.py backbone=transformer_xl backbone.memory=160 world.width=64 \
        model.reward_scale=40                # memory must reach from the question back to the colour
    python recipes/distracting_memory.py backbone=gru data.sampler=persistent data.length=8       # RSSM-TBTT
    python recipes/distracting_memory.py preset=s4wm-2d world=distracting_memory_100 model.reward_scale=60 \
        train.steps=100000                   # the paper's sizes: needs a GPU

Every episode is new and read whole. First the pictures get sharp, then, within some hundred steps, the reward is
understood. The table printed at the end gives the accuracy of the last reward over 1,000 held-out episodes, with all
observations (inference) and with the context and actions alone (imagination).

Claim: S4 imagines at least 95 % of the last rewards after 3,000 steps (ten minutes of one CPU core, `train.threads=1`).
"""

from __future__ import annotations

import sys

from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation import HeldOutValidation, evaluate_run
from wmkit.training import compose, run_recipe
from wmkit_envs import DistractingMemory


def config() -> RunConfig:
    """The run without overrides; `--help` lists every key."""
    run = RunConfig(
        world=DistractingMemory(width=16, tile=4),
        data=DataConfig(workers=1),
        train=TrainConfig(steps=3000, log_every=50, eval_every=250, checkpoint_every=250),
        eval=EvalConfig(episodes=64, horizon=None, batches=4),
    )
    return compose(run, ["preset=s4wm-minutes", "model.reward_head=true", "model.reward_scale=10"])


if __name__ == "__main__":
    sys.exit(run_recipe(config(), after=evaluate_run, validation=HeldOutValidation, page=__doc__))
