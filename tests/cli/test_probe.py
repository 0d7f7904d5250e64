"""`wmkit probe` on a run of a tiny model."""

import pytest

import wmkit
from wmkit.cli.__main__ import main
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.probing import ProbeResults
from wmkit_envs import DistractingMemory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = RunConfig(
        world=DistractingMemory(width=8, tile=4),
        backbone="gru",
        size="tiny",
        data=DataConfig(sampler="episodes", batch_size=2, workers=0),
        train=TrainConfig(steps=2, eval_every=2, checkpoint_every=2, device="cpu"),
        eval=EvalConfig(episodes=2, horizon=None, batches=1),
    )
    wmkit.train(config, folder)
    return folder


def test_probe_asks_what_it_is_told_to_and_goes_on(run, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("wmkit.probing.figures.draw_all", lambda *_: [])  # tests/probing/test_run.py draws
    words = ["--rows", "observed,no_memory", "--heads", "linear", "--seeds", "1", "--episodes", "3", "--held-out", "2",
             "--steps", "2", "--out", str(tmp_path)]  # fmt: skip
    assert main(["probe", str(run), "--probes", "sample_color", *words]) == 0
    assert "colours of the sample told right" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*/sample_color*.parquet")}
    assert len(before) == 3
    assert main(["probe", str(run), "--probes", "sample_color, pose", *words]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = ProbeResults.load(tmp_path).steps
    assert set(found.predictors("pose_linear")) == {"observed", "no_memory", "constant"}
    assert "sample_color_linear" in found.measures


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--probes", "color"], "Unknown probe 'color'"),
        (["--probes", " ,"], "probes: expected names separated by commas, got none"),
        (["--rows", "nothing"], "rows: expected one of observed"),
        (["--heads", "deep"], "heads: expected one of mlp, linear"),
        (["--held-out", "1"], "held_out: expected at least 2, got 1"),
        (["--probes", "walls"], "The probe 'walls' reads maze_layout"),
        (["--plugins", "no_such_module"], "plugins=no_such_module: No module named"),
    ],
)
def test_probe_refuses_what_cannot_be(run, words, message, capsys) -> None:
    assert main(["probe", str(run), *words]) == 2
    assert message in capsys.readouterr().err
