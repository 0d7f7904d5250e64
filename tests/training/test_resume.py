"""`kill -9` in the middle of training, then the same command with `resume=true`."""

import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """
import sys
from wmkit.config import DataConfig, RunConfig, TrainConfig
from wmkit.training.command import run_recipe

data = DataConfig(length=6, batch_size=2, episode_length=20, workers=1, sampler="persistent")
train = TrainConfig(steps=40, warmup=2, log_every=4, eval_every=12, checkpoint_every=5, threads=1)
sys.exit(run_recipe(RunConfig(backbone="gru", size="tiny", data=data, train=train), after=print))
"""


def kill_at_second_checkpoint(process: "subprocess.Popen[bytes]", run: Path) -> None:
    """Or at a later one: a checkpoint is there until two more are."""
    while not any(path.name >= "step-00000010" for path in run.glob("checkpoints/step-*")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.kill()


@pytest.mark.reported(
    "machines",
    "tensorflow/tensorboard#3732, pytorch/pytorch#42379",
    "`kill -9` while training, then `resume=true`",
    "the metrics of a run that was never killed, byte for byte",
)
def test_the_metrics_of_a_killed_and_resumed_run_are_those_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "maze.py").write_text(RECIPE)
    run = tmp_path / "runs" / "maze-ray_maze_9x9-gru-0"
    with subprocess.Popen([sys.executable, "maze.py"], cwd=tmp_path, stdout=subprocess.DEVNULL) as cut:
        kill_at_second_checkpoint(cut, run)
    assert not (run / "finished.json").exists()
    monkeypatch.chdir(tmp_path)
    for words in (["resume=true"], ["run_dir=whole", "data.workers=0"]):
        monkeypatch.setattr(sys, "argv", ["maze.py", *words])
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path("maze.py", run_name="__main__")
    expected = (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert (run / "metrics.jsonl").read_bytes() == expected
    assert expected.count(b"\n") == 40 // 4 + 40 // 12 + 1
