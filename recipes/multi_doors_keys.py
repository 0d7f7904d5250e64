"""Multi Doors Keys: which doors are open by now, when keys of four colours are fetched and spent?

    python recipes/multi_doors_keys.py                                       # S4, 3 keys, tiles of 4 pixels
    python recipes/multi_doors_keys.py backbone=gru                          # or transformer_xl, or one of your own
    python recipes/multi_doors_keys.py world.keys=2                          # any number from 2, which has 448 episodes
    python recipes/multi_doors_keys.py backbone=gru data.sampler=persistent data.length=25        # RSSM-TBTT
    python recipes/multi_doors_keys.py preset=s4wm-2d world=multi_doors_keys_3 train.steps=100000
                                                                             # the paper's sizes: needs a GPU

Every episode is new and read whole. There is no reward: the tables printed at the end give the error of the imagined
frames and, tile by tile, whether the doors in view are open or closed as they should be. A model below the row "first
map, true walk" knows that something changes.
"""

from __future__ import annotations

import sys

from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation import HeldOutValidation, evaluate_run
from wmkit.training import compose, run_recipe
from wmkit_envs import MultiDoorsKeys


def config() -> RunConfig:
    """The run without overrides; `--help` lists every key."""
    run = RunConfig(
        world=MultiDoorsKeys(keys=3, tile=4),
        data=DataConfig(workers=1),
        train=TrainConfig(steps=3000, log_every=50, eval_every=250, checkpoint_every=250),
        eval=EvalConfig(episodes=256, horizon=None, batches=4),
    )
    return compose(run, ["preset=s4wm-minutes"])


if __name__ == "__main__":
    sys.exit(run_recipe(config(), after=evaluate_run, validation=HeldOutValidation, page=__doc__))
