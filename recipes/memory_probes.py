"""What is remembered, for how long, at what cost? Small systems are trained on a world, probed and compared.

    python recipes/memory_probes.py                  # four systems, three seeds, ray-cast 9x9 mazes: an hour of 2 cores
    python recipes/memory_probes.py systems=gru seeds=0 minutes=2                                     # a first look
    python recipes/memory_probes.py worlds=distracting_memory world.width=16 world.tile=4 probes=sample_color \
        probe.episodes=400 probe.held_out=200 probe.every=1 data.sampler=episodes data.batch_size=16 minutes=6 \
        model.depth=16 model.units=256 model.latent=categorical model.kl_scale=1 model.reward_head=true \
        model.reward_scale=10 train.warmup=300 train.schedule=constant out=comparisons/probes_of_a_colour
    python recipes/memory_probes.py systems=gru,s4,s4d,s5,lru,transformer_xl out=comparisons/probes_of_all

A comparison whose runs are probed: models read whole episodes of the world's own protocol (501 | 500 steps in mazes of
9x9), window by window with the state carried on, and each is probed by every row, so that `observed` stands beside what
the present frame, the actions, and an untrained model tell. At the end `memory-WORLD.md` and `.png` hold a table of
each probe and the recall against the delay, over all seeds. Each run's own tables and pictures are in
`cells/RUN/probes`; `wmkit probe OUT/cells/RUN --checkpoint last` asks it more. The same command goes on after Ctrl-C or
a crash.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from wmkit.comparison import read_results, run_comparison
from wmkit.comparison.results import COST, COSTS
from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from wmkit.files import file_name, write_text
from wmkit.probing import systems_tables
from wmkit.probing.figures import draw_systems
from wmkit_envs import RayMaze

SYSTEMS = {
    "gru": ["backbone=gru"],
    "s4": ["backbone=s4"],
    "s5": ["backbone=s5"],
    "transformer_xl": ["backbone=transformer_xl", "backbone.memory=128"],
}
"""Overrides by name."""
DEFAULTS = (
    "systems=gru,s4,s5,transformer_xl",
    "seeds=0,1,2",
    "lrs=1e-3",
    "minutes=4",
    "jobs=2",
    "probes=walls,objects",
    "probe.heads=mlp",
    "probe.seeds=1",
    "probe.episodes=100",
    "probe.held_out=32",
    "probe.every=10",
    "probe.steps=300",
    "out=comparisons/memory_probes",
)
"""Of the comparison."""
SHOWN = ("state_bytes", "imagined_step_ms", "minutes")
"""The costs in the table."""


def config() -> RunConfig:
    """What every run has in common."""
    model = ModelConfig.for_size("small")
    model.depth, model.units, model.kl_scale = 8, 128, 0.1
    return RunConfig(
        world=RayMaze(image_size=32, plain=True),
        size="small",
        model=model,
        data=DataConfig(sampler="persistent", length=100, batch_size=8, workers=0),
        train=TrainConfig(
            warmup=50,
            clip=100.0,
            decode_share=0.25,
            precision="auto",
            threads=1,
            device="cpu",
            log_every=20,
            eval_every=500,
            checkpoint_every=250,
        ),
        eval=EvalConfig(episodes=16, horizon=None, batches=1),
    )


def tell_memory(folder: Path) -> None:
    """Of each world the tables and the figure of all systems that were probed there, each pooled over its seeds."""
    results = read_results(folder)
    for world in results.plan.worlds:
        found, costs = results.probed(world.name), {}
        for system in found:
            means = results.means.filter("chosen", predictor=COST, world=world.name, system=system)
            spent = dict(means.select("metric", "mean").iter_rows())
            costs[system] = {cost.title: cost.text(spent[cost.metric]) for cost in COSTS if cost.metric in SHOWN}
        if found:
            tables = list(systems_tables(found, costs))
            Console().print(*(table.rich() for table in tables))
            place = folder / file_name(f"memory-{world.name}")
            write_text(place.with_suffix(".md"), "\n".join(table.markdown() for table in tables))
            drawn = " and .png" if draw_systems(found, place.with_suffix(".png")) else ""
            print(f"{place}.md{drawn}", flush=True)


if __name__ == "__main__":
    sys.exit(run_comparison(config(), SYSTEMS, DEFAULTS, page=__doc__, after=tell_memory))
