"""`wmkit report` takes the folder of a comparison, run folders, and folders of runs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from wmkit.cli.__main__ import main
from wmkit.config import RunConfig, TrainConfig
from wmkit.evaluation.predictors import IMAGINED
from wmkit.evaluation.record import Measurements, Metric, frame_of
from wmkit.files import write_json
from wmkit.training.run_folder import RunFolder

RIGHT = Metric("right", "share", "higher", binary=True, headline=True)


def write_run(folder: Path, config: RunConfig, losses: list[float], right: float | None = None) -> None:
    """A run that has validated with `losses` at each tenth step and, with `right`, has ended and was evaluated."""
    folder.mkdir(parents=True)
    RunFolder(folder).describe(config, (3, 8, 8), 2)
    lines = [{"step": 10 * n, "split": "valid", "values": {"loss": loss}} for n, loss in enumerate(losses, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if right is None:
        return
    write_json(folder / "finished.json", {"step": 10 * len(losses)})
    frames = [frame_of("error", IMAGINED, np.full((4, 3), 7.0), 1)]
    frames.append(frame_of("right", IMAGINED, np.full((4, 1), right), None))
    metrics = {"error": Metric("error", "grey levels", "lower"), "right": RIGHT}
    Measurements(pl.concat(frames), metrics, 5, 3, {}).save(folder)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs: of two backbones, and one of another rate that is under way."""
    monkeypatch.setenv("COLUMNS", "200")
    write_run(tmp_path / "runs" / "a", RunConfig(backbone="gru", run_dir="a"), [9.0, 7.5, float("nan")], right=1.0)
    write_run(tmp_path / "runs" / "b", RunConfig(backbone="s4"), [6.25], right=0.0)
    write_run(tmp_path / "runs" / "c", RunConfig(backbone="s4", train=TrainConfig(lr=0.01)), [])
    return tmp_path / "runs"


@pytest.mark.reported("friction", "", "`wmkit report runs`, `wmkit report RUN RUN`", "a row per run")
@pytest.mark.reported(
    "friction", "", "a run under way, or not yet evaluated, in that table", "so it says, others stand"
)
@pytest.mark.reported("numbers", "", "a validation loss of NaN in that table", "left out of the lowest")
def test_runs_stand_in_a_table_with_where_they_differ(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs)]) == 0
    whole = capsys.readouterr().out
    assert main(["report", *(str(runs / name) for name in "abc")]) == 0
    assert capsys.readouterr().out == whole
    lines = [" ".join(line.split()) for line in whole.splitlines()]
    first, second = lines[lines.index("train.lr=0.0003") - 1 :][:2]
    assert first == "a backbone=gru 30 7.5 100.0% [51.0%, 100.0%] 0 of 0"
    assert second == "train.lr=0.0003"
    assert "b backbone=s4 10 6.25 0.0% [0.0%, 49.0%] 0 of 0" in lines
    assert lines[lines.index("train.lr=0.01") - 1] == "c backbone=s4 0, unfinished - - -"
    assert "run where they differ steps loss right, imagined claims" in lines
    assert "error" not in whole, "the headline alone"


def test_one_run_is_a_table_too(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs / "b")]) == 0
    assert "6.25" in capsys.readouterr().out


@pytest.mark.reported("friction", "", "`wmkit report` of a folder without runs", "what it takes")
def test_other_folders_are_refused_with_what_is_taken(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs.parent / "comparison").mkdir()
    (runs.parent / "comparison" / "plan.json").touch()
    for words, sentence in (
        ([str(runs / "a" / "pictures")], "does not exist; expected run folders"),
        ([str(runs.parent)], "holds none; expected run folders (with a config.json), a folder of them such as runs"),
        ([str(runs), str(runs.parent / "comparison")], "is a comparison: it is reported alone"),
    ):
        assert main(["report", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_runs_of_other_worlds_differ_by_the_worlds_name(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = dataclasses.replace(RunConfig(backbone="gru"), world="distracting_memory")
    write_run(runs / "d", config, [1.0])
    assert main(["report", str(runs / "a"), str(runs / "d")]) == 0
    shown = capsys.readouterr().out
    assert "world=ray_maze" in shown
    assert "world=distracting_memory" in shown
    assert "world.size" not in shown
