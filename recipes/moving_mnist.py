"""Moving MNIST: watch two digits for a while, then imagine where they fly. Which are they, and where, after 900 frames?

    python recipes/moving_mnist.py                                      # CW-VAE: 3 levels, k = 4, pictures of 32x32
    python recipes/moving_mnist.py backbone.levels=1                    # RSSM
    python recipes/moving_mnist.py backbone.factor=1                    # three levels that all tick (NoTmpAbs)
    python recipes/moving_mnist.py backbone.levels=3 backbone.factor=6 data.length=100 data.batch_size=10
                                                                        # the papers' factor, with clips of more than 36
    python recipes/moving_mnist.py "backbone.strides=[1,2,12]"          # or strides level by level
    python recipes/moving_mnist.py backbone.core=s4                     # levels over another backbone
    python recipes/moving_mnist.py "backbone.core={name: s4, layers: 1}"
    python recipes/moving_mnist.py world.speed=3                        # or 0.33, or any other speed
    python recipes/moving_mnist.py preset=cwvae-mmnist world=moving_mnist train.steps=120000 train.threads=null
                                                                        # as released, 64x64: needs a GPU
    WMKIT_MNIST=FOLDER python recipes/moving_mnist.py                   # MNIST's digits (idx files), not scikit-learn's
    wmkit evaluate RUN --measures similarity,digits                     # afterwards: SSIM, PSNR, which digits, where
    wmkit levels kl RUN                                                 # or entropy, reset, samples: of each level

Trained on clips of 32 frames (data.length), tested with 36 frames of context and a horizon of 64; eval.horizon=900 is
the papers', for a run that is trained already it is `wmkit levels horizon RUN --horizon 900`. The table at the end has
the errors of imagined frames. After so few steps a model knows where digits are, not which: docs/clockwork.md has the
words of runs that know both.
"""

from __future__ import annotations

import sys

from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation import HeldOutValidation, evaluate_run
from wmkit.training import compose, run_recipe
from wmkit_envs import MovingMnist


def config() -> RunConfig:
    """The run without overrides; `--help` lists every key."""
    run = RunConfig(
        world=MovingMnist(side=32),
        backbone="clockwork",
        data=DataConfig(episode_length=100, workers=0),
        train=TrainConfig(steps=3000, threads=1, log_every=50, eval_every=500, checkpoint_every=500),
        eval=EvalConfig(episodes=64, context=36, horizon=64, batches=4),
    )
    return compose(run, ["preset=cwvae-minutes"])


if __name__ == "__main__":
    sys.exit(run_recipe(config(), after=evaluate_run, validation=HeldOutValidation, page=__doc__))
