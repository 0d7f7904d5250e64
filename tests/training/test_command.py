import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmkit.cli.__main__ import main
from wmkit.config import RunConfig, load_config
from wmkit.data import Episodes, WorkerError, write_archive
from wmkit.training import command
from wmkit.training.command import SWEEP, run_recipe
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

    def run(argv: list[str], check: bool, env: Mapping[str, str]) -> Any:
        ran.append(argv)
        return subprocess.CompletedProcess(argv, returncode=1 if "backbone=s4" in argv else 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert recipe("-m", "backbone=s4,gru", "seed=1") == 1
    assert ran == [[sys.executable, "recipes/maze.py", f"backbone={name}", "seed=1"] for name in ("s4", "gru")]
    assert capsys.readouterr().err == "failed: backbone=s4 seed=1\n"


@pytest.mark.reported(
    "friction", "", "a sweep, `-m`, has ended", "a table: what differs, steps, loss, headline figure of each run"
)
def test_a_sweep_ends_with_a_table_of_its_runs_which_tell_it_their_folders(
    recipe: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its processes are run in this one."""
    start = subprocess.run

    def run(argv: list[str], **options: Any) -> Any:
        if argv[:4] == [sys.executable, "-m", "wmkit.cli", "report"]:
            return subprocess.CompletedProcess(argv, main(argv[3:]))
        if argv[0] != sys.executable:
            return start(argv, **options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(SWEEP, options["env"][SWEEP])
            return subprocess.CompletedProcess(argv, recipe(*argv[2:]))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("COLUMNS", "120")
    assert recipe("-m", "seed=1,2") == 0
    shown = capsys.readouterr().out
    folders = [f"runs/maze-ray_maze_9x9-gru-{seed}" for seed in (1, 2)]
    assert f"All of them again: wmkit report {' '.join(folders)}\n" in shown
    assert "Next:" not in shown
    for seed in (1, 2):
        assert re.search(rf"maze-ray_maze_9x9-gru-{seed} +seed={seed} +1 +\d", shown)


@pytest.mark.reported("friction", "", "a recipe has ended", "`Next:` with `wmkit imagine RUN` and `tensorboard`")
@pytest.mark.reported("friction", "", "a run folder with spaces in its name", "quoted in what to do next")
def test_a_recipe_ends_with_what_to_do_next(recipe: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe('run_dir="my runs/first one"', after=lambda run: None) == 0
    end = capsys.readouterr().out.splitlines()[-3:]
    assert end == ["Next:", "  wmkit imagine 'my runs/first one'", "  tensorboard --logdir 'my runs'"]


@pytest.mark.reported("friction", "", "`resume=true` where nothing is unfinished", "said, and a new run begins")
@pytest.mark.reported("friction", "", "`resume=true` on a run that has ended", "said; nothing is trained again")
def test_resume_says_where_there_is_nothing_to_resume(
    recipe: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    name = "runs/maze-ray_maze_9x9-gru-0"
    assert recipe("resume=true") == 0
    first = f"Nothing to resume: no run of the name {name} is unfinished. Run folder {name}"
    assert capsys.readouterr().out.splitlines()[0] == first
    assert recipe("resume=true", "run_dir=own") == 0
    assert capsys.readouterr().out.splitlines()[0] == "Nothing to resume in own: a new run"
    assert recipe("resume=true", "run_dir=own") == 0
    assert capsys.readouterr().out.splitlines()[0] == "Resuming own, which has reached its last step"


@pytest.mark.reported("friction", "", "`--help train`, `--help train.lr`", "that section, that key")
@pytest.mark.reported("friction", "", "`backbone=gru --help backbone`", "the keys of the GRU")
def test_help_of_a_section_or_a_key(recipe: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe("--help", "train") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("train: The optimiser, its schedule")
    assert {line.partition("=")[0].partition(".")[0] for line in shown.splitlines() if "=" in line} >= {"  train"}
    assert "model." not in shown
    assert recipe("train.lr", "seed", "-h") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("  train.lr=0.0003\n      Peak learning rate")
    assert "\n  seed=0\n      Seed of weights" in shown
    assert recipe("backbone=transformer_xl", "backbone.memory=7", "--help", "backbone") == 0
    assert "  backbone.memory=7\n" in capsys.readouterr().out


@pytest.mark.reported("friction", "", "`--help trian`", "the nearest section, and all of them")
def test_help_of_what_is_not_there_names_what_is(
    recipe: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert recipe("--help", "trian") == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "no such section or key. Did you mean 'train'? Sections: world, backbone, model, data, train, eval" in shown


@pytest.mark.reported(
    "friction", "", "Ctrl-C while a recipe evaluates", "what was trained stays; the command that measures it"
)
@pytest.mark.reported(
    "friction", "", "a second Ctrl-C while a run trains", "one line instead of a traceback, status 130"
)
def test_an_interrupt_is_a_line_that_says_what_is_there(
    recipe: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> Any:
        raise KeyboardInterrupt

    assert recipe(after=interrupt) == 130
    assert (Path("runs/maze-ray_maze_9x9-gru-0") / "finished.json").exists()
    measure = "wmkit evaluate runs/maze-ray_maze_9x9-gru-0 measures it."
    assert capsys.readouterr().err == f"Stopped in the evaluation. The run is trained: {measure}\n"
    monkeypatch.setattr(command, "train", interrupt)
    assert recipe() == 130
    assert capsys.readouterr().err.startswith("Stopped at once; resume=true goes on from the last checkpoint")


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

    def run(argv: list[str], check: bool, env: Mapping[str, str]) -> Any:
        ran.append(argv)
        signal.raise_signal(signal.SIGINT)
        return subprocess.CompletedProcess(argv, returncode=130)

    monkeypatch.setattr(subprocess, "run", run)
    assert recipe("-m", "seed=1,2") == 130
    assert len(ran) == 1
    assert "stopped in run 1 of 2" in capsys.readouterr().err


@pytest.mark.reported(
    "machines",
    "google-deepmind/dm_control#511, google-deepmind/labmaze#11",
    "the default recipe without labmaze",
    "status 2 and one sentence, before anything is trained",
)
def test_a_world_that_lacks_its_library_is_a_sentence(
    recipe: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "labmaze", None)
    monkeypatch.setenv("COLUMNS", "300")
    assert recipe(after=pytest.fail) == 2
    assert "mazes need labmaze" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.reported(
    "names",
    "ray-project/ray#15367",
    "`run_dir` with brackets, spaces, accents, `~`, `=`, `#`, `$`, `%`",
    "trained there; resumed from there",
)
def test_a_run_folder_of_any_name_is_trained_in_and_resumed(recipe: Callable[..., int], tmp_path: Path) -> None:
    name = "mÿ [v1] a=b #c ~$x$ %d {e} 日本"
    assert recipe(f"run_dir={name}") == 0
    assert (tmp_path / name / "finished.json").exists()
    assert recipe(f"run_dir={name}") == 2
    assert recipe(f"run_dir={name}", "resume=true") == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.reported(
    "machines",
    "",
    "the system's clock is set back while a run trains",
    "the run goes on; speeds and budgets are of a clock that only goes forwards",
)
def test_a_clock_that_goes_backwards_stops_no_run(
    recipe: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hours = itertools.count(1_700_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(hours)))
    assert recipe("train.minutes=0.0001", "run_dir=run", "train.threads=null") == 0
    timing = [json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    assert all(value >= 0 for line in timing for value in line["values"].values())


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
    for wrong, said in (
        ("'own [1]/wide'", "If both are integers, import both with --action-dim 3"),
        ("nowhere", "there is no such folder"),
    ):
        assert recipe(*own, f"data.test_source={wrong}") == 2
        assert said in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "runs").exists()
    evaluated: list[Path] = []
    assert recipe(*own, after=evaluated.append) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("the test archive is the validation archive, by which the best checkpoint is chosen.")
    assert said[1] == "To be tested on all 3 episodes of own [1]/test: 6 steps observed, 6 imagined."
    assert evaluated == [Path("runs/maze-own [1]-gru-0")]
    kept = load_config(evaluated[0] / "config.json")
    assert (kept.eval.context, kept.eval.horizon, kept.data.test_source) == (6, 6, "own [1]/test")
