"""The smallest comparison, and a folder that looks as if one had been run."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from wmkit.comparison.plan import Cell, CellFiles, Plan, PlannedWorld, Status, System
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation.predictors import IMAGINED, MAJORITY, MEAN_IMAGE, OBSERVED
from wmkit.evaluation.record import Measurements, Metric, frame_of
from wmkit.files import write_json
from wmkit_envs import DistractingMemory, World

WORLD = DistractingMemory(width=8, tile=4)
ERROR = Metric("error", "squared error per frame", "lower")
RIGHT = Metric("right", "share", "higher", label="answers <right>", binary=True, headline=True, validated=True)
EPISODES = 20


@pytest.fixture
def tiny() -> RunConfig:
    """A run of a second or two on one thread."""
    return RunConfig(
        world=WORLD,
        size="tiny",
        data=DataConfig(sampler="episodes", batch_size=2, workers=0),
        train=TrainConfig(warmup=1, threads=1, device="cpu", log_every=2, eval_every=5, checkpoint_every=5),
        eval=EvalConfig(episodes=2, batches=1, reward_episodes=2, valid_reward_episodes=2),
    )


def build_folder(
    folder: Path,
    *,
    ended: int = 8,
    failed: tuple[int, ...] = (),
    right: bool = True,
    worlds: tuple[World, ...] = (WORLD,),
) -> Path:
    """Writes the files of a comparison of `s4` and `gru` at two rates and two seeds, without any run.

    Every cell of s4 has an imagined error of 2 and 3 at the two steps after the context, gru 8 and 9; both observe with
    1 and 2. With `right`, 18 of 20 answers of s4 are right, imagined and observed, 10 of gru; the majority has 12.
    """
    plan = Plan(
        systems=(System("s4", ("backbone=s4",)), System("gru", ("backbone=gru", "plugins=[a<b]"))),
        worlds=tuple(map(PlannedWorld.of, worlds)),
        seeds=(0, 1),
        lrs=(1e-3, 3e-3),
        minutes=1.0,
        steps=None,
        command="python compare.py 'a<b>'",
    )
    plan.save(folder)
    for number, cell in enumerate(plan.cells()[:ended]):
        write_cell(CellFiles.of(folder, cell), cell, failed=number in failed, right=right)
        config = RunConfig(seed=cell.seed, eval=EvalConfig(context=15, horizon=2, episodes=EPISODES))
        write_json(CellFiles.of(folder, cell).config, config.to_dict())
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """`build_folder` in a folder of the test."""
    return functools.partial(build_folder, tmp_path)


@pytest.fixture(scope="session")
def built_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole comparison that no test changes."""
    return build_folder(tmp_path_factory.mktemp("comparison"))


@pytest.fixture
def rewrite_records() -> Callable[..., None]:
    """Changes what the records of a run are about."""

    def rewrite(run: Path, **about: Any) -> None:
        found = Measurements.load(run)
        dataclasses.replace(found, about={**found.about, **about}).save(run)

    return rewrite


def write_cell(files: CellFiles, cell: Cell, *, failed: bool, right: bool) -> None:
    if failed:
        files.write(status=Status.FAILED, error="ValueError: No finite gradient <in> 10 steps")
        return
    files.write(status=Status.DONE, error=None, parameters=1_500_000, peak_memory_bytes=2**29)
    good = cell.system == "s4"
    metrics, timing = [], []
    for step in (10, 20):
        values: dict[str, Any] = {"loss": 9.0 - cell.lr * step}
        if right:
            values["right_imagined"] = 0.5 + (0.02 * step if good else 0.0)
        metrics.append({"step": step, "split": "valid", "values": values})
        timing.append({"step": step, "split": "train", "values": {"frames_per_second": 100.0, "seconds": 30.0}})
        timing.append({"step": step, "split": "valid", "values": {"training_seconds": 3.0 * step + cell.seed}})
    for name, lines in (("metrics", metrics), ("timing", timing)):
        (files.run / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (files.run / "finished.json").write_text(json.dumps({"step": 20, "seconds": 60.0, "skipped": cell.seed}))
    measurements(good, right).save(files.run)
    (files.run / "versions.json").write_text(json.dumps({"starts": [{"torch": "2", "processor": "Some CPU, 2 cores"}]}))
    (files.run / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(files.run / "pictures" / "strip.png")


def measurements(good: bool, right: bool) -> Measurements:
    """Two query steps after a context of 15."""
    errors = {IMAGINED: 2.0 if good else 8.0, OBSERVED: 1.0, MEAN_IMAGE: 9.0}
    frames = [frame_of("error", name, np.tile([error, error + 1], (EPISODES, 1)), 1) for name, error in errors.items()]
    hits = {IMAGINED: 18 if good else 10, OBSERVED: 18 if good else 10, MAJORITY: 12}
    if right:
        frames += [
            frame_of("right", name, (np.arange(EPISODES) < count).astype(float)[:, None], None)
            for name, count in hits.items()
        ]
    return Measurements(pl.concat(frames), {"error": ERROR, "right": RIGHT}, 15, 2, {"checkpoint": "step-00000020"})
