"""Two Rooms: is the room that was left imagined as it was seen, and does a teleport call it back?

    python recipes/two_rooms.py                                          # 24 runs of 8 minutes, two at a time
    python recipes/two_rooms.py systems=s4,gru seeds=0 minutes=2         # a first look
    python recipes/two_rooms.py world.image_size=64 world.plain=false size=3d train.device=auto train.threads=null \
        jobs=1 steps=100000                                              # the paper's frames: needs a GPU
    wmkit report comparisons/two_rooms                                   # the page again, without training

S4WM's Table 1 and Figures 5 and 6 at a size for CPUs: frames of 32 x 32 pixels, plain walls, small models. In
`ray_two_rooms` (context 301, query 200) the page shows the error of frames that are observed and imagined, and
`steps.png` that of each query step. In `ray_two_rooms_teleport` (150, 101) the query repeats a part of the context, and
`recall.png` shows the error of the same last frames after 0 to 20 further observations, from which a model must find
out where it has been taken to; beside it that of the same model which has seen these observations alone, and not the
context. `gru_tbtt` is the RSSM of the paper: windows of 48 steps with the state carried on. The same command goes on
after Ctrl-C or a crash; `--help` lists every key.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from wmkit.comparison import read_results, run_comparison
from wmkit.comparison.report import looks_of
from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from wmkit.evaluation import Table, predictor, whole_episodes
from wmkit.evaluation.measures.frames import frame_error
from wmkit.evaluation.plots.look import own_look
from wmkit.evaluation.predictors import IMAGINED, MEAN_IMAGE, NO_MEMORY
from wmkit.evaluation.rollout import evaluating
from wmkit.files import write_json
from wmkit.loading import load, run_config
from wmkit_envs import Rooms

SYSTEMS = {
    "s4": ["backbone=s4"],
    "transformer_xl": ["backbone=transformer_xl", "backbone.memory=512"],
    "gru": ["backbone=gru"],
    "gru_tbtt": ["backbone=gru", "data.sampler=persistent", "data.length=48", "data.batch_size=16"],
}
"""Overrides by name."""
DEFAULTS = (
    "systems=s4,transformer_xl,gru_tbtt,gru",
    "worlds=ray_two_rooms,ray_two_rooms_teleport",
    "world.image_size=32",
    "world.plain=true",
    "seeds=0,1,2",
    "lrs=1e-3",
    "minutes=8",
    "jobs=2",
    "out=comparisons/two_rooms",
)
"""Of the comparison."""
EXTRA = (0, 1, 2, 5, 10, 20)
"""Observations after the context, as in Figure 6; the first of them is the one that the teleport leads to."""
SMOOTHED = 9
"""Query steps whose mean a curve shows."""
ALONE = "observations alone"
"""The model that has seen these and not the context; it needs one."""


def config() -> RunConfig:
    """What every run has in common."""
    model = ModelConfig.for_size("small")
    model.depth, model.units, model.kl_scale = 8, 128, 0.3
    return RunConfig(
        world=Rooms(image_size=32, plain=True),
        size="small",
        model=model,
        data=DataConfig(sampler="episodes", batch_size=2, workers=0),
        train=TrainConfig(
            warmup=100,
            clip=100.0,
            decode_share=0.5,
            precision="auto",
            threads=1,
            device="cpu",
            log_every=50,
            eval_every=400,
            checkpoint_every=200,
        ),
        eval=EvalConfig(episodes=32, horizon=None, batches=4),
    )


def draw(folder: Path) -> None:
    """Both figures, as far as there are runs for them."""
    draw_steps(folder)
    measure_recall(folder)


@own_look()
def draw_steps(folder: Path) -> None:
    """Write `steps.png`, as S4WM's Figure 5: of each world the error of imagined frames against the query step, means
    over seeds and `SMOOTHED` steps, thin those of the same model without memory.
    """
    results = read_results(folder)
    curves = results.of_chosen(results.curves, metric="frame_error")
    worlds = [world.name for world in results.plan.worlds if not curves.filter(world=world.name).is_empty()]
    if not worlds:
        return
    figure = Figure(figsize=(6.5 * len(worlds), 4.2), dpi=110, layout="constrained")
    over = curves.group_by("world", "system", "predictor", "step").agg(pl.col("value").mean()).sort("step")
    over = over.with_columns(
        pl.col("value").rolling_mean(SMOOTHED, center=True, min_samples=1).over("world", "system", "predictor")
    )
    for axes, world in zip(figure.subplots(1, len(worlds), squeeze=False)[0], worlds, strict=True):
        of_world = over.filter(world=world)
        for system, look in looks_of(results.plan).items():
            for name, label, alpha in ((IMAGINED, system, 1.0), (NO_MEMORY, None, 0.3)):
                line = of_world.filter(system=system, predictor=name)
                axes.plot(line["step"], line["value"], color=look.light, linestyle=look.dash, alpha=alpha, label=label)
        known, of_mean = predictor(MEAN_IMAGE), of_world.filter(predictor=MEAN_IMAGE)
        mean = of_mean.group_by("step").agg(pl.col("value").mean()).sort("step")
        axes.plot(mean["step"], mean["value"], color=known.colour, linestyle=known.dash, label=known.label)
        axes.set(xlabel="steps after the context", ylabel="squared error of imagined frames", ylim=(0, None))
        axes.set_title(f"{world}\npale: the same without memory", fontsize=9)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(folder / "steps.png")
    print(folder / "steps.png", flush=True)


def measure_recall(folder: Path) -> None:
    """Of runs on a teleport world the error of the query's frames that come after all `EXTRA` observations, when so
    many of these were shown; then `recall.json`, `recall.png` and a table of it. What was measured before is read.
    """
    rows: list[dict[str, object]] = []
    runs = read_results(folder).runs()
    teleports = {cell: run for cell, run in runs.items() if getattr(run_config(run).world, "teleport", False)}
    for cell, run in track(teleports.items(), "recall", console=Console(), disable=not teleports):
        if not (run / "recall.json").exists():
            write_json(run / "recall.json", recall_of(run))
        found = json.loads((run / "recall.json").read_text(encoding="utf-8"))
        rows += [{"system": cell.system, "seed": cell.seed, **row} for row in found]
    if rows:
        write_json(folder / "recall.json", rows)
        Console().print(draw_recall(folder, pl.DataFrame(rows)).rich())
        print(f"{folder / 'recall'}.json and .png", flush=True)


def recall_of(run: Path) -> list[dict[str, object]]:
    """`extra`, `predictor` and `error` of one run's last checkpoint on its test episodes."""
    config, model = run_config(run), load(run, "last")
    context, length = config.world.context_length, config.world.episode_length
    batch = whole_episodes(config, model, "test", config.eval.episodes, length)
    judged = batch.image[:, context + max(EXTRA) :]
    mean = judged.new_tensor(batch.image[:, :context].double().mean((0, 1)).round().tolist())  # (C, H, W)
    rows: list[dict[str, object]] = [
        {"extra": extra, "predictor": MEAN_IMAGE, "error": float(frame_error(mean, judged).mean())} for extra in EXTRA
    ]
    with evaluating(model):
        for name, first in ((IMAGINED, 0), (ALONE, context)):
            shown = batch.window(first, length)
            noise = model.draw_noise(*shown.shape, torch.Generator().manual_seed(config.seed))
            state, at = None, 0
            for extra in EXTRA[0 if first == 0 else 1 :]:
                now = context - first + extra
                _, state = model.observe(
                    shown.image[:, at:now], shown.action[:, at:now], state=state, noise=noise[:, at:now]
                )
                ahead = model.imagine(shown.action[:, now:], state, noise=noise[:, now:]).features
                frames = model.decode(ahead[:, -judged.shape[1] :])
                rows.append({"extra": extra, "predictor": name, "error": float(frame_error(frames, judged).mean())})
                at = now
    return rows


@own_look()
def draw_recall(folder: Path, recall: pl.DataFrame) -> Table:
    """Write `recall.png`, as S4WM's Figure 6: means over seeds and their range. The same as a table."""
    over_seeds = recall.group_by("system", "predictor", "extra", maintain_order=True).agg(
        pl.col("error").mean(), pl.col("error").min().alias("low"), pl.col("error").max().alias("high")
    )
    figure = Figure(figsize=(6.5, 4.2), dpi=110, layout="constrained")
    axes, rows = figure.subplots(), []
    for system, look in looks_of(read_results(folder).plan).items():
        for name, alpha in ((IMAGINED, 1.0), (ALONE, 0.35)):
            part = over_seeds.filter(system=system, predictor=name)
            label = system if name == IMAGINED else f"{system}, {ALONE}"
            style: dict[str, Any] = {"color": look.light, "linestyle": look.dash, "alpha": alpha}
            axes.plot(part["extra"], part["error"], marker="o", label=label, **style)
            axes.fill_between(part["extra"], part["low"], part["high"], color=look.light, alpha=0.15 * alpha)
            rows.append([label, *_cells(part)])
    baseline = (
        over_seeds.filter(predictor=MEAN_IMAGE).group_by("extra", maintain_order=True).agg(pl.col("error").mean())
    )
    known = predictor(MEAN_IMAGE)
    axes.plot(baseline["extra"], baseline["error"], color=known.colour, linestyle=known.dash, label=known.label)
    rows.append([known.label, *_cells(baseline)])
    axes.set(xlabel="observations after the teleport", ylabel="squared error of the last frames", ylim=(0, None))
    axes.set_xticks(EXTRA)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(folder / "recall.png")
    return Table("Recall after a teleport: error of the last frames", ["observations", *map(str, EXTRA)], rows)


def _cells(errors: pl.DataFrame) -> list[str]:
    known = dict(zip(errors["extra"], errors["error"], strict=True))
    return [f"{known[extra]:.1f}" if extra in known else "-" for extra in EXTRA]


if __name__ == "__main__":
    sys.exit(run_comparison(config(), SYSTEMS, DEFAULTS, page=__doc__, after=draw))
