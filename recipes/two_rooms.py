"""Two Rooms: is the room that was left imagined as it was seen, and does a teleport call it back?

    python recipes/two_rooms.py                                          # all of it: about four hours of two cores
    python recipes/two_rooms.py systems=s4,gru seeds=0 minutes=2         # a first look
    python recipes/two_rooms.py world.image_size=64 world.plain=false size=3d    # the paper's frames: needs a GPU
    wmkit report comparisons/two_rooms                                   # the page again, without training

S4WM's Table 1 and Figures 5 and 6 at a size for CPUs: frames of 32 x 32 pixels, plain walls, small models. In
`ray_two_rooms` (context 301, query 200) the page shows the error of frames that are observed and imagined, per step of
the query, beside a model that has no memory. In `ray_two_rooms_teleport` (150, 101) the query repeats a part of the
context, and the figure `recall.png` shows the error of the same last frames after 0 to 20 further observations, from
which a model must find out where it has been taken to. `gru_tbtt` is the RSSM of the paper: windows of 48 steps with
the state carried on. The same command goes on after Ctrl-C or a crash; `--help` lists every key.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from wmkit.comparison import CellFiles, Status, load_plan, run_comparison
from wmkit.comparison.report import looks_of
from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from wmkit.evaluation import Measurements, Table, evaluate_run, predictor
from wmkit.evaluation.plots.look import own_look
from wmkit.evaluation.predictors import IMAGINED, MEAN_IMAGE, NO_MEMORY
from wmkit.files import write_json
from wmkit_envs import Rooms, find_world

SYSTEMS = {
    "s4": ["backbone=s4"],
    "transformer_xl": ["backbone=transformer_xl", "backbone.memory=128"],
    "gru": ["backbone=gru"],
    "gru_tbtt": ["backbone=gru", "data.sampler=persistent", "data.length=48", "data.batch_size=32"],
}
"""Overrides by name."""
OUT = "comparisons/two_rooms"
DEFAULTS = (
    "systems=s4,transformer_xl,gru_tbtt,gru",
    "worlds=ray_two_rooms,ray_two_rooms_teleport",
    "world.image_size=32",
    "world.plain=true",
    "seeds=0,1,2",
    "lrs=1e-3",
    "minutes=20",
    "jobs=2",
    f"out={OUT}",
)
"""Of the comparison."""
EXTRA = (0, 1, 2, 5, 10, 20)
"""Observations after the teleport, as in Figure 6."""


def config() -> RunConfig:
    """What every run has in common."""
    model = ModelConfig.for_size("small")
    model.depth, model.units, model.kl_scale = 8, 128, 0.1
    return RunConfig(
        world=Rooms(image_size=32, plain=True),
        size="small",
        model=model,
        data=DataConfig(sampler="episodes", batch_size=8, workers=0),
        train=TrainConfig(
            warmup=100,
            clip=100.0,
            decode_share=0.5,
            precision="auto",
            threads=1,
            device="cpu",
            log_every=25,
            eval_every=200,
            checkpoint_every=200,
        ),
        eval=EvalConfig(episodes=64, horizon=None, batches=4),
    )


def main(overrides: Sequence[str]) -> int:
    """Train and compare, then ask what a teleport calls back; returns the exit status."""
    status = run_comparison(config(), SYSTEMS, DEFAULTS, overrides, page=__doc__)
    if status > 1 or {"-h", "--help"} & set(overrides):  # 1: some runs failed, the figure has the others
        return status
    folder = Path([word for word in [*DEFAULTS, *overrides] if word.startswith("out=")][-1].removeprefix("out="))
    recall = measure_recall(folder)
    if len(recall):
        table = draw_recall(folder, recall)
        Console().print(table.rich())
        print(f"{folder / 'recall'}.json and .png", flush=True)
    return status


def measure_recall(folder: Path) -> pl.DataFrame:
    """`system`, `seed`, `extra`, `predictor`, `error`: of runs on the teleport world the error of the query's frames
    that come after all `EXTRA` observations, when so many of these were shown. What was measured before is read.
    """
    cells = [cell for cell in load_plan(folder).cells() if "teleport" in cell.world]
    cells = [cell for cell in cells if CellFiles.of(folder, cell).status() is Status.DONE]
    rows = []
    for cell, extra in track([(cell, extra) for cell in cells for extra in EXTRA], "recall", console=Console()):
        run, world = CellFiles.of(folder, cell).run, find_world("ray_two_rooms_teleport")
        context, query = world.context_length + extra, world.episode_length - world.context_length
        place = run / "recall" / str(extra)
        if not (place / "evaluation.json").exists():
            evaluate_run(
                run,
                checkpoint="last",
                measures=["frames"],
                context=context,
                horizon=query - extra,
                out=place,
                console=Console(file=StringIO()),
            )
        found = Measurements.load(place)
        for name in (IMAGINED, NO_MEMORY, MEAN_IMAGE):
            error = found.estimate("frame_error", name, (max(EXTRA) - query, -1)).mean
            rows.append({"system": cell.system, "seed": cell.seed, "extra": extra, "predictor": name, "error": error})
    return pl.DataFrame(rows)


@own_look()
def draw_recall(folder: Path, recall: pl.DataFrame) -> Table:
    """Write `recall.json` and `recall.png`, as S4WM's Figure 6; the same as a table, means over seeds."""
    write_json(folder / "recall.json", recall.to_dicts())
    over_seeds = recall.group_by("system", "predictor", "extra", maintain_order=True).agg(
        pl.col("error").mean(), pl.col("error").min().alias("low"), pl.col("error").max().alias("high")
    )
    figure = Figure(figsize=(6.5, 4.2), dpi=110, layout="constrained")
    axes, rows = figure.subplots(), []
    for system, look in looks_of(load_plan(folder)).items():
        for name, alpha in ((IMAGINED, 1.0), (NO_MEMORY, 0.35)):
            part = over_seeds.filter(system=system, predictor=name)
            if not len(part):
                continue
            label = system if name == IMAGINED else f"{system}, no memory"
            axes.plot(
                part["extra"],
                part["error"],
                marker="o",
                color=look.light,
                linestyle=look.dash,
                alpha=alpha,
                label=label,
            )
            axes.fill_between(
                part["extra"], part["low"], part["high"], color=look.light, alpha=0.15 * alpha, linewidth=0
            )
            rows.append([label, *(f"{error:.1f}" for error in part["error"])])
    baseline = (
        over_seeds.filter(predictor=MEAN_IMAGE).group_by("extra", maintain_order=True).agg(pl.col("error").mean())
    )
    known = predictor(MEAN_IMAGE)
    axes.plot(baseline["extra"], baseline["error"], color=known.colour, linestyle=known.dash, label=known.label)
    rows.append([known.label, *(f"{error:.1f}" for error in baseline["error"])])
    axes.set(xlabel="observations after the teleport", ylabel="squared error of the last frames", ylim=(0, None))
    axes.set_xticks(EXTRA)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(folder / "recall.png")
    return Table("Recall after a teleport: error of the last frames", ["observations", *map(str, EXTRA)], rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
