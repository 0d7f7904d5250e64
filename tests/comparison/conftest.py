"""The smallest comparison, and a folder that looks as if one had been run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from wmkit.comparison.cell import Cell, CellFiles, Status
from wmkit.comparison.plan import Plan
from wmkit.comparison.system import System
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit_envs import DistractingMemory, World

WORLD = DistractingMemory(width=8, tile=4)


@pytest.fixture
def tiny() -> RunConfig:
    """A run of a second or two on one thread."""
    return RunConfig(
        world=WORLD,
        size="tiny",
        data=DataConfig(sampler="episodes", batch_size=2, workers=0),
        train=TrainConfig(warmup=1, threads=1, device="cpu", log_every=2, eval_every=5, checkpoint_every=5),
        eval=EvalConfig(episodes=2, batches=1),
    )


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes the files of a comparison of `s4` and `<gru>` at two rates and two seeds, without any run."""

    def make(
        *, ended: int = 8, failed: tuple[int, ...] = (), rewards: bool = True, worlds: tuple[World, ...] = (WORLD,)
    ) -> Path:
        plan = Plan(
            systems=(System("s4", ("backbone=s4",)), System("gru", ("backbone=gru", "plugins=[a<b]"))),
            worlds={world.name: world for world in worlds},
            seeds=(0, 1),
            lrs=(1e-3, 3e-3),
            minutes=1.0,
            steps=None,
            command="python compare.py 'a<b>'",
        )
        plan.save(tmp_path)
        for number, cell in enumerate(plan.cells()[:ended]):
            _write(CellFiles.of(tmp_path, cell), cell, failed=number in failed, rewards=rewards)
        return tmp_path

    return make


def _write(files: CellFiles, cell: Cell, *, failed: bool, rewards: bool) -> None:
    if failed:
        files.write(status=Status.FAILED, error="ValueError: No finite gradient <in> 10 steps")
        return
    files.write(status=Status.DONE, error=None, parameters=1_500_000, peak_memory_bytes=2**29)
    good = cell.system == "s4"
    metrics, timing = [], []
    for step in (10, 20):
        values: dict[str, Any] = {"loss": 9.0 - cell.lr * step}
        if rewards:
            values["reward_accuracy_imagined"] = 0.5 + (0.02 * step if good else 0.0)
        metrics.append({"step": step, "split": "valid", "values": values})
        timing.append({"step": step, "split": "train", "values": {"frames_per_second": 100.0, "seconds": 30.0}})
        timing.append({"step": step, "split": "valid", "values": {"training_seconds": 3.0 * step + cell.seed}})
    for name, lines in (("metrics", metrics), ("timing", timing)):
        (files.run / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (files.run / "finished.json").write_text(json.dumps({"step": 20, "seconds": 60.0, "skipped": cell.seed}))
    (files.run / "evaluation.json").write_text(json.dumps(_evaluation(good, rewards)))
    (files.run / "versions.json").write_text(json.dumps({"starts": [{"torch": "2", "processor": "Some CPU, 2 cores"}]}))
    files.config.write_text("{}")
    (files.run / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(files.run / "pictures" / "strip.png")


def _evaluation(good: bool, rewards: bool) -> dict[str, Any]:
    errors = {"generation": 2.0 if good else 8.0, "reconstruction": 1.0, "mean image": 9.0}
    curves = {name: {"mean": [error, error + 1]} for name, error in errors.items()}
    accuracy = {"accuracy": 0.9 if good else 0.5, "low": 0.4, "high": 0.95, "episodes": 1000}
    majority = {"accuracy": 0.51, "low": 0.48, "high": 0.54, "episodes": 1000}
    rows = {"inference": accuracy, "imagination": accuracy, "majority": majority}
    return {"episodes": 64, "context": 15, "horizon": 2, "query_curves": curves} | (
        {"reward_accuracy": rows} if rewards else {}
    )
