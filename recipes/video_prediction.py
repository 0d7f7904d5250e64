"""Video prediction: the systems of the Clockwork VAE paper's Table E.1, and its levels over S4, on one set of videos.

    python recipes/video_prediction.py                                     # 18 runs of 10 minutes, two at a time
    python recipes/video_prediction.py systems=cwvae,svg_lp seeds=0 minutes=2                           # a first look
    python recipes/video_prediction.py steps=3000 out=comparisons/equal_steps  # times as in Table D.1: of equal steps
    python recipes/video_prediction.py eval.horizon=900 out=comparisons/videos_900     # the papers' horizon
    python recipes/video_prediction.py worlds=moving_mnist_slow,moving_mnist,moving_mnist_fast world.side=32
    python recipes/video_prediction.py worlds=ray_maze_9x9 world.image_size=32         # any world, its actions too
    python recipes/video_prediction.py data.source=ARCHIVE eval.context=null eval.horizon=null  # videos of your own
    python recipes/video_prediction.py systems=cwvae,notmpabs,rssm,svg_lp,vta world.side=64 steps=120000 jobs=1 \
        train.threads=null train.device=auto eval.horizon=900 system.cwvae=preset=cwvae-mmnist \
        system.notmpabs=preset=notmpabs system.rssm=preset=rssm-video system.svg_lp=preset=svg-lp-dcgan \
        system.vta=preset=vta-video out=comparisons/table_e1               # the papers' sizes: needs a GPU
    wmkit report comparisons/video_prediction                              # the page again, without training

Clips of 100 frames: models learn from pieces of them, observe 36 frames and imagine 64. When all runs are done, SSIM,
PSNR and a Frechet distance are measured on each, LPIPS too where its weights are (docs/evaluation.md); without those of
FVD the distance is `fd_corruptions`, which is not FVD. The report then has each metric against the horizon, and strips.
Last comes a table like E.1, with the mean rank, what needs no model, parameters (D.2) and training times (D.1); it is
also `videos-WORLD.md`. The same command goes on after Ctrl-C or a crash; `--help` lists every key.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.stats import rankdata

from wmkit.comparison import Results, read_results, run_comparison
from wmkit.comparison.report import write_report
from wmkit.comparison.results import COST, COSTS
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation import Measurements, Table, evaluate_run, predictor
from wmkit.evaluation.estimates import Estimate, Floats, crossed
from wmkit.evaluation.held_out import context_and_horizon, held_out, training_of
from wmkit.evaluation.measures.base import Setting, all_measures
from wmkit.evaluation.predictors import COPY_LAST, IMAGINED, MEAN_IMAGE, TRAINING_CLIPS
from wmkit.files import file_name, write_text
from wmkit.loading import LAST, load, run_config
from wmkit.training import compose
from wmkit_envs import MovingMnist

SYSTEMS = {
    "cwvae": [],
    "notmpabs": ["backbone.factor=1"],
    "rssm": ["backbone.levels=1"],
    "cwvae_s4": ["backbone.core=s4"],
    "svg_lp": [
        "backbone=svg_lp",
        "model.image_loss=mse",
        "model.kl_scale=1e-4",
        "model.first_step=condition",
        "train.lr=2e-3",
        "data.length=15",
    ],
    "vta": ["backbone=vta", "train.lr=5e-4", "train.clip=10", "data.length=40", "data.batch_size=16"],
}
"""Overrides by name: of the clockwork what differs, of the others the loss, rate and clips that they are published with
and their numbers of size `small`."""
DEFAULTS = (
    "systems=cwvae,notmpabs,rssm,svg_lp,vta,cwvae_s4",
    "seeds=0,1,2",
    "lrs=1e-3",
    "minutes=10",
    "jobs=2",
    "eval.horizon=64",
    "out=comparisons/video_prediction",
)
"""Of the comparison."""
RANKED = {
    "similarity": ("ssim_skimage_l2", "psnr"),
    "lpips_alex": ("lpips_alex",),
    "fvd": ("fvd_start", "fvd_end"),
    "fd_corruptions": ("fd_corruptions_start", "fd_corruptions_end"),
}
"""By measure the metrics of the table, all of which count in the mean rank."""
FLOORS = (COPY_LAST, MEAN_IMAGE, TRAINING_CLIPS)
"""What needs no model. The last: how far apart true clips lie."""
SHOWN = ("parameters", "steps", "minutes", "frames_per_second")
"""The costs in the table."""


def config() -> RunConfig:
    """What every run has in common: the recipe moving_mnist, tested on more clips than a distance has features."""
    run = RunConfig(
        world=MovingMnist(side=32),
        backbone="clockwork",
        data=DataConfig(episode_length=100, workers=0),
        train=TrainConfig(threads=1, device="cpu", log_every=50, eval_every=500, checkpoint_every=500),
        eval=EvalConfig(episodes=128, context=36, horizon=64, batches=4),
    )
    return compose(run, ["preset=cwvae-minutes"])


def tell_videos(folder: Path) -> None:
    """Measure what is not measured yet, write the report anew, and print and write the table of each world."""
    results = read_results(folder)
    measures: dict[str, list[str]] = {}
    for cell, run in track(results.runs().items(), "videos", console=Console(), disable=not results.runs()):
        if cell.world not in measures:
            measures[cell.world] = measures_of(run)
        measure(run, measures[cell.world])
    write_report(folder)
    ranks: dict[str, list[Floats]] = {}
    for world, names in measures.items():
        table, of_world = videos_table(results, world, [metric for name in names for metric in RANKED[name]])
        for system, rank in of_world.items():
            ranks.setdefault(system, []).append(rank)
        Console().print(table.rich())
        place = folder / file_name(f"videos-{world}.md")
        write_text(place, table.markdown())
        print(place, flush=True)
    if len(measures) > 1:  # as in the paper: over all data sets, of systems that have run on each
        whole = {system: np.concatenate(of) for system, of in ranks.items() if len(of) == len(measures)}
        rows = [[system, f"{of.mean():.2f}"] for system, of in whole.items()]
        Console().print(Table(f"Mean rank over {len(measures)} worlds", ["system", "mean rank"], rows).rich())


def measures_of(run: Path) -> list[str]:
    """Those of `RANKED` that apply to the run and lack no weights; `fd_corruptions` stands in for FVD."""
    settings, model = run_config(run), load(run, LAST)
    first = held_out(settings).episode(0)
    setting = Setting(model, *context_and_horizon(settings), settings.seed, first, training_of(settings))
    made = [all_measures()[name]() for name in RANKED]
    names = [one.name for one in made if one.applies(setting) and not one.lacks()]
    return [name for name in names if name != "fd_corruptions" or "fvd" not in names]


def measure(run: Path, names: list[str]) -> None:
    """Add the records of these measures to those of the run, where they are not among them."""
    there = Measurements.load(run).measures
    missing = [name for name in names if RANKED[name][0] not in there]
    if not missing:
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* clips are few for", UserWarning)  # the table's caption says it once
        evaluate_run(run, checkpoint=LAST, measures=missing, console=Console(quiet=True))


def videos_table(results: Results, world: str, wanted: list[str]) -> tuple[Table, dict[str, Floats]]:
    """Of one world the table, a row per system and floor, and the ranks of each system, (metrics,) in its order."""
    measured: dict[str, list[Measurements]] = {}
    for cell, run in results.runs(world=world).items():
        measured.setdefault(cell.system, []).append(Measurements.load(run))
    one = next(iter(measured.values()))[0]
    metrics = [one.metrics[name] for name in wanted if name in one.measures]
    labels = [system.label for system in results.plan.systems if system.label in measured]
    found = {label: [over_seeds(measured[label], metric.name) for metric in metrics] for label in labels}
    means = np.array([[estimate.mean for estimate in found[label]] for label in labels])  # (systems, metrics)
    ranks = ranks_of(means, np.array([metric.better == "higher" for metric in metrics]))
    costs = {
        (row["system"], row["metric"]): row["mean"]
        for row in results.means.filter("chosen", world=world, predictor=COST).iter_rows(named=True)
    }
    shown = [cost for cost in COSTS if cost.metric in SHOWN]
    rows = [
        [
            label,
            *(metric.text(estimate) for metric, estimate in zip(metrics, found[label], strict=True)),
            f"{of.mean():.2f}",
            f"{len(measured[label])}",
            *(cost.text(costs[label, cost.metric]) if (label, cost.metric) in costs else "-" for cost in shown),
        ]
        for label, of in zip(labels, ranks, strict=True)
    ]
    for name in FLOORS:
        values = [
            metric.text(one.estimate(metric.name, name)) if name in one.predictors(metric.name) else "-"
            for metric in metrics
        ]
        if {*values} != {"-"}:
            rows.append([predictor(name).label, *values, *["-"] * (2 + len(shown))])
    told = "; ".join(f"{metric.name}: {metric.title}, {metric.better} is better" for metric in metrics)
    captions = " ".join(dict.fromkeys(metric.caption for metric in metrics if metric.caption))
    headings = ["", *(metric.name for metric in metrics), "mean rank", "seeds", *(cost.title for cost in shown)]
    caption = (
        f"{one.episodes} test clips, {one.context} frames observed, {one.horizon} imagined. ± half of a 95 % interval: "
        "a bootstrap of seeds and clips, of a distance's clips by the jackknife; of what needs no model, over clips. "
        f"Mean rank over these metrics, equal values share the better one. {told}. {captions}"
    )
    title = f"Video prediction on {world}, {results.plan.budget()}"
    return Table(title, headings, rows, caption.strip()), dict(zip(labels, ranks, strict=True))


def over_seeds(seeds: list[Measurements], metric: str) -> Estimate:
    """Mean over seeds, clips and steps of what is imagined; all seeds have the same clips."""
    return crossed(np.stack([one.values(metric, IMAGINED).mean(1) for one in seeds]))  # (R, N, T) -> (R, N)


def ranks_of(scores: Floats, higher: np.ndarray) -> Floats:
    """Ranks from 1, the best, of scores (systems, metrics) within each metric -> (systems, metrics).

    higher: (metrics,) bool, whether higher is better. Equal scores share the better rank, as 1, 1, 3: so the printed
    scores of Table E.1 give the mean ranks printed there (mean ranks of ties, 1.5, 1.5, 3, do not). What is no number
    comes last, and infinity with it.
    """
    worse = np.where(higher, -scores, scores)
    return rankdata(np.where(np.isfinite(worse), worse, np.inf), method="min", axis=0).astype(float)


if __name__ == "__main__":
    sys.exit(run_comparison(config(), SYSTEMS, DEFAULTS, page=__doc__, after=tell_videos))
