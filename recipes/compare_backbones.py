"""Compare backbones: who remembers the square at the other end of the corridor?

    python recipes/compare_backbones.py                                    # the comparison below: 2 h 30 min of 2 cores
    python recipes/compare_backbones.py minutes=16                         # on a CPU without AVX-512: twice as long
    python recipes/compare_backbones.py systems=s4,gru seeds=0 minutes=2   # a first look
    python recipes/compare_backbones.py world.width=32 model.reward_scale=20 minutes=15
    python recipes/compare_backbones.py "system.wide=backbone=s4 backbone.layers=8" systems=s4,wide out=comparisons/wide
    wmkit report comparisons/distracting_memory_16_tile4                       # the report again, without training

Every system gets the same episodes, processor time and learning rates; which rate it is judged by is chosen on the
validation split. `gru_tbtt` is the RSSM of the S4WM paper: windows of a fifth of the shortest episode, so
that no gradient goes from the question back to the colour; `gru` is the same model on whole episodes. Everything goes
to `out=`; the same command again goes on after Ctrl-C, a crash, or with more seeds. `--help` lists every key.
"""

from __future__ import annotations

import dataclasses
import sys

from wmkit.comparison import run_comparison
from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from wmkit_envs import DistractingMemory

SYSTEMS = {
    "s4": ["backbone=s4"],
    "transformer_xl": ["backbone=transformer_xl"],
    "gru": ["backbone=gru"],
    "gru_tbtt": ["backbone=gru", "data.sampler=persistent", "data.length=8", "data.batch_size=64"],
}
"""Overrides by name. A batch of TBTT has 0.8 times the frames of the others, as in the paper (32 x 50 to 8 x 250)."""

DEFAULTS = (
    "systems=s4,gru_tbtt,gru,transformer_xl",
    "seeds=0,1,2",
    "lrs=3e-4,1e-3,3e-3",
    "minutes=7",
    "jobs=2",
)


def config() -> RunConfig:
    """What every run of the comparison has in common."""
    small = ModelConfig.for_size("small")
    model = dataclasses.replace(small, latent="categorical", kl_scale=1.0, reward_head=True, reward_scale=10.0)
    return RunConfig(
        world=DistractingMemory(width=16, tile=4),
        size="small",
        model=model,
        data=DataConfig(sampler="episodes", batch_size=16, workers=0),
        train=TrainConfig(
            warmup=300,
            schedule="constant",
            clip=100.0,
            decode_share=0.5,
            precision="auto",
            threads=1,
            device="cpu",
            log_every=50,
            eval_every=250,
        ),
        eval=EvalConfig(episodes=64, horizon=None, batches=4),
    )


if __name__ == "__main__":
    sys.exit(run_comparison(config(), SYSTEMS, DEFAULTS, page=__doc__))
