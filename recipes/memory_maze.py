"""Memory worlds in three dimensions: see a place for a while, then imagine what comes next from the actions alone.

    python recipes/memory_maze.py                            # S4 in Look Around, the smallest of these worlds
    python recipes/memory_maze.py backbone=gru               # or transformer_xl, or one of your own (plugins=my_module)
    python recipes/memory_maze.py backbone=gru data.sampler=persistent data.length=48    # TBTT: windows, state carried
    python recipes/memory_maze.py world=ray_two_rooms world.image_size=32 world.plain=true
    python recipes/memory_maze.py world=ray_maze_9x9 preset=s4wm-3d train.steps=100000    # the paper's size: for a GPU
    python recipes/memory_maze.py world=memory_maze data.batch_size=1 train.steps=100 eval.episodes=4   # in MuJoCo
    python recipes/memory_maze.py -m backbone=s4,gru,transformer_xl seed=0,1

Training reads whole episodes, and the test is the world's own context and query: 101 and 100 steps in Look Around, 301
and 200 in Two Rooms, 501 and 500 in mazes of 9x9. The model is small, for frames of 32x32: for larger ones take
`size=2d` or a preset, which bring their own numbers.

Claim: after 1,000 steps (about eight minutes on two CPU cores), S4 imagines what the context showed with less error
than the same model begun at the context's last frame (`no memory`), at steps 6 to 20 and in the last ten, and with less
than the mean image. The table printed at the end says whether that held, and `pictures/strip.png` shows it.
"""

from __future__ import annotations

import sys

from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from wmkit.evaluation import HeldOutValidation, evaluate_run
from wmkit.training import run_recipe


def config() -> RunConfig:
    """The run without overrides; `--help` lists every key."""
    model = ModelConfig.for_size("small")
    model.depth, model.units, model.kl_scale = 8, 128, 0.1  # frames of 32 x 32 need no more
    return RunConfig(
        world="ray_look_around",
        backbone="s4",
        size="small",
        model=model,
        data=DataConfig(sampler="episodes", batch_size=8, workers=1),
        train=TrainConfig(
            steps=1000,
            lr=2e-3,
            warmup=50,
            clip=100.0,
            decode_share=0.5,
            precision="auto",
            log_every=20,
            eval_every=250,
            checkpoint_every=250,
        ),
        eval=EvalConfig(episodes=64, horizon=None),
    )


if __name__ == "__main__":
    sys.exit(run_recipe(config(), after=evaluate_run, validation=HeldOutValidation, page=__doc__))
