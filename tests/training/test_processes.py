"""A run on two processes against the same run on one."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from wmkit.training.log import read_lines

RECIPE = """
import sys
from wmkit.config import DataConfig, RunConfig, TrainConfig
from wmkit.training.command import run_recipe

data = DataConfig(length=6, batch_size=4, episode_length=18, workers=0, sampler="persistent")
train = TrainConfig(steps=6, warmup=2, log_every=2, eval_every=3, checkpoint_every=4, threads=1, device="cpu")
config = RunConfig(backbone="gru", size="tiny", data=data, train=train)
sys.exit(run_recipe(config, after=lambda run: print("evaluating", run)))
"""


@pytest.mark.reported(
    "machines",
    "Eclectic-Sheep/sheeprl#273, #339",
    "`torchrun` with two processes",
    "trains what one process does; one evaluates",
)
def test_two_processes_train_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "maze.py").write_text(RECIPE)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    logs = {}
    command = [sys.executable, *torchrun, "maze.py", "run_dir=two"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("evaluating") == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["maze.py", "run_dir=one"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path("maze.py", run_name="__main__")
    for name in ("one", "two"):
        logs[name] = list(read_lines(tmp_path / name / "metrics.jsonl"))
    assert [(line["step"], line["split"]) for line in logs["one"]] == [
        (line["step"], line["split"]) for line in logs["two"]
    ]
    for one, two in zip(logs["one"], logs["two"], strict=True):
        assert two["values"] == pytest.approx(one["values"], rel=1e-4)
