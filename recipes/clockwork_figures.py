r"""The tables and figures of TALD and CW-VAE on Moving MNIST, at a size that a CPU trains: first the runs, then these.

    python recipes/clockwork_figures.py figure=8 seeds=0,1,2 jobs=2    # KL per level at three speeds
    python recipes/clockwork_figures.py figure=1                       # SSIM and digits by horizon, k in 1..8
    python recipes/clockwork_figures.py figure=10                      # entropy per level in the context and after it
    python recipes/clockwork_figures.py figure=11                      # which level holds what: level reset, samples
    python recipes/clockwork_figures.py figure=table1                  # KL in bits, one to four levels
    python recipes/clockwork_figures.py figure=tableD1                 # training time relative to the RSSM's
    python recipes/clockwork_figures.py figure=8 systems=k6 preset=cwvae-mmnist lrs=3e-4 \
        worlds=moving_mnist_slow,moving_mnist,moving_mnist_fast world.side=64 steps=120000 train.threads=null \
        out=figures/paper
    python recipes/clockwork_figures.py figure=table1 preset=cwvae-mmnist lrs=3e-4 world.side=64 steps=120000 \
        systems=rssm,levels2,k6,levels4 "system.levels2=backbone.levels=2 backbone.factor=6" \
        "system.levels4=backbone.levels=4 backbone.factor=4" train.threads=null out=figures/paper

The systems k1, k2, ... set k, levels4 has k = 3: at the papers' size name those of the papers, as above. Numbers are
those of the papers: 1, 8, 10, 11 and table 1 of TALD, table D.1 of CW-VAE. Runs go to `out=`, a comparison
(docs/comparing.md), and are shared, but for figure 1, whose clips are longer: what one figure has trained the next one
takes, and the same command goes on where it was stopped. One run takes one thread, so jobs=2 fills two cores; times are
worth little unless jobs=1 and nothing else runs. The figure and its JSON are in `out=`/figure-NAME. `--help` lists
every key.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from wmkit.comparison import Cell, CellFiles, Plan, Status, load_plan, run_comparison
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation.levels.base import all_analyses
from wmkit.training import compose
from wmkit_envs import MovingMnist

OUT = "figures/clockwork"
SYSTEMS = {
    "rssm": ["backbone.levels=1"],
    "levels2": ["backbone.levels=2"],
    "levels4": ["backbone.levels=4", "backbone.factor=3"],
    **{f"k{factor}": [f"backbone.factor={factor}"] for factor in (1, 2, 4, 6, 8)},
}
"""By name; `k1` is NoTmpAbs, `k4` the CW-VAE of the small preset. Four levels tick faster, as in TALD's Table 1."""
DEFAULTS = ("seeds=0", "lrs=1e-3", "steps=3000", "jobs=1", f"out={OUT}", "eval.horizon=64")


@dataclasses.dataclass(frozen=True)
class Figure:
    """A table or figure: the comparison that trains its runs, and the analyses that it shows, by name."""

    overrides: tuple[str, ...]
    """Of the comparison's defaults."""
    together: tuple[str, ...] = ()
    """Of all runs in one."""
    apart: tuple[str, ...] = ()
    """Of each run by itself."""


FIGURES = {
    # With k of 6 and 8 the top level ticks every 36 and 64 frames: clips as long as the papers', or it learns nothing.
    "1": Figure(
        ("systems=rssm,k1,k2,k4,k6,k8", "data.length=100", "data.batch_size=10", f"out={OUT}-1"),
        together=("horizon",),
    ),
    "8": Figure(
        ("systems=k4", "worlds=moving_mnist_slow,moving_mnist,moving_mnist_fast", "world.side=32"),
        together=("speeds",),
    ),
    "10": Figure(("systems=k2",), apart=("entropy",)),
    "11": Figure(("systems=k4",), apart=("reset", "samples")),
    "table1": Figure(("systems=rssm,levels2,k4,levels4",), together=("kl",)),
    "tableD1": Figure(("systems=rssm,k4,k1",), together=("times",)),
}


def config() -> RunConfig:
    """What every run has in common: the recipe moving_mnist."""
    run = RunConfig(
        world=MovingMnist(side=32),
        backbone="clockwork",
        data=DataConfig(episode_length=100, workers=0),
        train=TrainConfig(threads=1, log_every=50, eval_every=500, checkpoint_every=500),
        eval=EvalConfig(episodes=64, context=36, horizon=64, batches=4),
    )
    return compose(run, ["preset=cwvae-minutes"])


def main(overrides: Sequence[str]) -> int:
    """Train what the figure needs, then draw it; returns the exit status."""
    if {"-h", "--help"} & set(overrides):
        return run_comparison(config(), SYSTEMS, DEFAULTS, overrides, page=__doc__)
    names = [word.removeprefix("figure=") for word in overrides if word.startswith("figure=")]
    if len(names) != 1 or names[0] not in FIGURES:
        print(f"Cannot do that: say which, figure=..., one of {', '.join(FIGURES)}", file=sys.stderr)
        return 2
    figure, rest = FIGURES[names[0]], [word for word in overrides if not word.startswith("figure=")]
    defaults = [*DEFAULTS, *figure.overrides]
    status = run_comparison(config(), SYSTEMS, defaults, rest)
    if status > 1:  # 1: some runs failed, the figure has the others
        return status
    folder = Path([word for word in [*defaults, *rest] if word.startswith("out=")][-1].removeprefix("out="))
    try:
        draw(figure, folder, folder / f"figure-{names[0]}")
    except ValueError as error:
        print(f"Cannot draw that: {error}", file=sys.stderr)
        return 2
    return status


def draw(figure: Figure, folder: Path, out: Path) -> None:
    """Print and draw the analyses of the runs in `folder` that have ended well; `ValueError` where there is none."""
    plan = load_plan(folder)
    files = {label(cell, plan): CellFiles.of(folder, cell) for cell in plan.cells()}
    runs = {name: cell.run for name, cell in files.items() if cell.status() is Status.DONE}
    if not runs:
        raise ValueError("no run has ended well")
    jobs = [(analysis, runs, out) for analysis in figure.together]
    jobs += [(analysis, {name: run}, out / name) for analysis in figure.apart for name, run in runs.items()]
    for analysis, chosen, where in jobs:
        where.mkdir(parents=True, exist_ok=True)
        Console().print(all_analyses()[analysis]().write(chosen, where).rich())
        print(f"{where / analysis}.json and .png", flush=True)


def label(cell: Cell, plan: Plan) -> str:
    """What tells the run from the others of its plan."""
    parts = {
        cell.system: len(plan.systems) > 1,
        cell.world: len(plan.worlds) > 1,
        f"seed{cell.seed}": len(plan.seeds) > 1,
        f"lr{cell.lr:g}": len(plan.lrs) > 1,
    }
    return "-".join(name for name, tells in parts.items() if tells) or cell.system


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
