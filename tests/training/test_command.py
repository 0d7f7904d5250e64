import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmkit.config import RunConfig, load_config
from wmkit.data import Episodes, WorkerError, write_archive
from wmkit.training import command
from wmkit.training.command import run_recipe
from wmkit.training.loop import Summary

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def recipe(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A recipe run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recipes/maze.py"])
    return lambda *words, after=print: run_recipe(make_config(train={"steps": 1}), after, words, page="Mazes.")


def test_a_recipe_trains_and_then_evaluates(recipe: Callable[..., int], tmp_path: Path) -> None:
    evaluated: list[Path] = []
    assert recipe("seed=4", after=evaluated.append) == 0
    assert evaluated == [Path("runs/maze-ray_maze_9x9-gru-4")]
    assert (tmp_path / evaluated[0] / "finished.json").exists()


@pytest.mark.parametrize(
    "word", ["backbone=gur", "trian.steps=3", "world=ray_maze_9x8", "train.steps=x", "model.depth=0"]
)
def test_a_users_mistake_is_one_panel_and_status_2(
    recipe: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    assert recipe(word) == 2
    shown = capsys.readouterr().err
    assert "cannot do that" in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "the disk is full"), "the disk is full"),
        (MemoryError("lower it"), "lower it"),
        (WorkerError("worker 0 died"), "worker 0 died"),
    ],
)
def test_a_machine_that_refuses_is_status_1(
    recipe: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    words: str,
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(command, "train", fail)
    assert recipe() == 1
    assert words in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(recipe: Callable[..., int]) -> None:
    def bug(run: Path) -> None:
        raise TypeError("not the user's fault")

    with pytest.raises(TypeError):
        recipe(after=bug)


def test_a_stopped_run_is_not_evaluated_and_its_status_is_the_signals(
    recipe: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "train", lambda *args: Summary(3, 1.0, 0, stopped_by=15))
    assert recipe(after=pytest.fail) == 143
    assert "resume=true continues it" in capsys.readouterr().out


def test_help_shows_keys_and_trains_nothing(
    recipe: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recipe("--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Mazes.")
    assert "data.batch_size=2" in shown
    assert not list(tmp_path.iterdir())


def test_a_sweep_runs_each_job_in_its_own_process_and_reports_failures(
    recipe: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def run(argv: list[str], check: bool) -> Any:
        ran.append(argv)
        return subprocess.CompletedProcess(argv, returncode=1 if "backbone=s4" in argv else 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert recipe("-m", "backbone=s4,gru", "seed=1") == 1
    assert ran == [[sys.executable, "recipes/maze.py", f"backbone={name}", "seed=1"] for name in ("s4", "gru")]
    assert capsys.readouterr().err == "failed: backbone=s4 seed=1\n"


def test_a_sweep_without_m_says_what_is_missing(recipe: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe("seed=1,2") == 2
    assert "Add -m" in capsys.readouterr().err


def test_a_file_that_the_system_refuses_is_named(
    recipe: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert recipe("run_dir=file/run") == 1
    assert "file/run" in capsys.readouterr().err


def test_an_impossible_evaluation_is_refused_before_training(recipe: Callable[..., int], tmp_path: Path) -> None:
    assert recipe("eval.horizon=2000", after=pytest.fail) == 2
    assert not list(tmp_path.iterdir())


def test_a_signal_ends_a_sweep_after_the_job_under_way(
    recipe: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def run(argv: list[str], check: bool) -> Any:
        ran.append(argv)
        signal.raise_signal(signal.SIGINT)
        return subprocess.CompletedProcess(argv, returncode=130)

    monkeypatch.setattr(subprocess, "run", run)
    assert recipe("-m", "seed=1,2") == 130
    assert len(ran) == 1
    assert "stopped in run 1 of 2" in capsys.readouterr().err


@pytest.mark.reported(
    "data",
    "Farama-Foundation/Minari#304",
    "a recipe on archives whose test archive has another action width, or on a folder that is not there",
    "status 2 before the first step, no run folder; with archives that fit, notes before the run folder",
)
def test_what_the_end_needs_is_asked_before_the_first_step(
    recipe: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name, width in (("train", 2), ("test", 2), ("wide", 3)):
        images = rng.integers(0, 256, (3, 12, 8, 8, 3), np.uint8)
        episodes = [{"image": image, "action": np.zeros((12, width))} for image in images]
        write_archive(Episodes(episodes), tmp_path / "own [1]" / name)
    own = ["data.source='own [1]/train'", "data.valid_source='own [1]/test'", "data.episode_length=null"]
    own += ["data.episodes=null", "eval.context=null", "eval.horizon=null"]
    for wrong, said in (("'own [1]/wide'", "Set data.test_source"), ("nowhere", "there is no such folder")):
        assert recipe(*own, f"data.test_source={wrong}") == 2
        assert said in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "runs").exists()
    evaluated: list[Path] = []
    assert recipe(*own, after=evaluated.append) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("No test archive of its own")
    assert said[1] == "To be tested on all 3 episodes of own [1]/test: 6 steps observed, 6 imagined."
    assert evaluated == [Path("runs/maze-own [1]-gru-0")]
    kept = load_config(evaluated[0] / "config.json")
    assert (kept.eval.context, kept.eval.horizon, kept.data.test_source) == (6, 6, "own [1]/test")
