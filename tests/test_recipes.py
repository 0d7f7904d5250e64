"""Every recipe takes two tiny steps on a CPU and ends with a table and pictures."""

import ast
import dataclasses
import itertools
import json
import math
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wmkit import build_world_model, load, save
from wmkit.backbones.s4 import S4Config
from wmkit.build import get_preset
from wmkit.cli.__main__ import main
from wmkit.comparison import Plan, PlannedWorld, System
from wmkit.config import ModelConfig, load_config
from wmkit.data import EpisodeSource, find_world
from wmkit.evaluation.clip_encoder import ClipEncoder, fit_clip_encoder
from wmkit.evaluation.levels.base import all_analyses
from wmkit.training.overrides import compose, expand_sweep
from wmkit_envs import DistractingMemory

pytestmark = pytest.mark.no_cover  # whole runs: other tests reach the lines

RECIPES = Path(__file__).parent.parent / "recipes"
TWO_STEPS = ("data.batch_size=2", "data.workers=0", "train.steps=2", "train.device=cpu", "train.threads=1",
             "eval.episodes=2", "eval.batches=1", "eval.reward_episodes=6", "eval.valid_reward_episodes=4")  # fmt: skip
SHORT = (*TWO_STEPS, "size=tiny", "data.length=8", "data.episode_length=24", "eval.context=6", "eval.horizon=6")

Recipe = Callable[..., int]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_drawings: None) -> Recipe:
    """Run a recipe as a script, in an empty folder, in this process and without figures; returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *overrides: str) -> int:
        monkeypatch.setattr(sys, "argv", [f"recipes/{name}.py", *overrides])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(RECIPES / f"{name}.py"), run_name="__main__")
        return int(ended.value.code or 0)

    return run


def commands_of_page(name: str) -> list[str]:
    """The lines of a recipe's page that run it, those that go on put together."""
    page = ast.get_docstring(ast.parse((RECIPES / f"{name}.py").read_text())) or ""
    return [line for line in re.sub(r"\\\n *", "", page).splitlines() if f" recipes/{name}.py" in line]


def part(recipe: str, name: str) -> Any:
    """What the recipe calls `name`."""
    return runpy.run_path(str(RECIPES / f"{recipe}.py"))[name]


@pytest.mark.early
@pytest.mark.reported(
    "machines", "", "the newest torch and triton that there are", "the recipe trains, evaluates and draws"
)
def test_memory_maze_takes_two_steps_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPES / "memory_maze.py"), "run_dir=run", *SHORT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "last context frame" in done.stdout
    run = tmp_path / "run"
    assert {"config.json", "evaluation.json", "metrics.jsonl", "pictures"} <= {path.name for path in run.iterdir()}
    assert (run / "pictures" / "imagined.gif").stat().st_size > 0


def test_memory_maze_takes_two_steps(recipe: Recipe) -> None:
    """With a GRU in tests/data/test_worlds.py, on worlds of a plug-in."""
    assert recipe("memory_maze", "run_dir=run", *SHORT, "backbone=transformer_xl", "world=ray_two_rooms") == 0
    assert Path("run/evaluation.json").exists()


def test_two_rooms_compares_and_asks_what_a_teleport_calls_back(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["systems=gru", "worlds=ray_two_rooms_teleport", "steps=2", "seeds=0", "size=tiny", "world.image_size=8"]
    words += ["data.batch_size=1", "eval.batches=1", "eval.episodes=2", "out=rooms", "jobs=1"]
    assert recipe("two_rooms", *words) == 0
    printed = capsys.readouterr().out
    assert "Recall after a teleport" in printed
    rows = json.loads((tmp_path / "rooms" / "recall.json").read_text())
    assert all(math.isfinite(row["error"]) for row in rows)
    shown = {(row["predictor"], row["extra"]) for row in rows}
    assert shown == {
        *itertools.product(("imagined", "mean_image"), (0, 1, 2, 5, 10, 20)),
        *itertools.product(["observations alone"], (1, 2, 5, 10, 20)),
    }
    assert len({row["error"] for row in rows if row["predictor"] == "mean_image"}) == 1  # the same frames are judged
    for name in ("recall", "steps"):
        with Image.open(tmp_path / "rooms" / f"{name}.png") as picture:
            assert picture.width > 500


def test_memory_probes_ends_with_what_is_remembered_for_how_long_and_at_what_cost(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["systems=gru", "world.image_size=8", "steps=2", "seeds=0", "size=tiny", "data.batch_size=1"]
    words += ["eval.batches=1", "eval.episodes=2", "data.episode_length=40", "eval.context=20", "probe.heads=linear"]
    words += ["probe.episodes=2", "probe.held_out=2", "probe.length=40", "probe.every=8", "probe.steps=2"]
    assert recipe("memory_probes", *words, "out=probes", "jobs=1") == 0
    assert "what is remembered, for how long, at what cost" in " ".join(capsys.readouterr().out.split())
    table = (tmp_path / "probes" / "memory-ray_maze_9x9_image_size8_plainTrue.md").read_text()
    assert "what is remembered, for how long, at what cost" in table
    for heading in ("better than no memory by", "horizon", "state of a row", "imagined step of a row"):
        assert f"| {heading} |" in table
    assert "| gru |" in table
    assert "walls: cells of the maze told right, linear, no memory" in (tmp_path / "probes" / "report.html").read_text()


@pytest.mark.parametrize("name", ["memory_maze", "distracting_memory", "multi_doors_keys", "moving_mnist", "own_data"])
def test_help_opens_with_the_recipes_page(recipe: Recipe, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe(name, "--help") == 0
    page = ast.get_docstring(ast.parse((RECIPES / f"{name}.py").read_text()))
    assert page is not None
    assert capsys.readouterr().out.startswith(page)


@pytest.mark.reported(
    "data",
    "",
    "`python recipes/own_data.py` without `data.source`, or with `data.source=null`",
    "status 2: name the folder of your archives; no mazes, no folder",
)
@pytest.mark.parametrize("words", [(), ("data.source=null",)])
def test_own_data_asks_for_the_archives(recipe: Recipe, words: tuple[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe("own_data", *words) == 2
    assert "data.source: name the folder of your archives" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.usefixtures("cells_in_this_process")
def test_compare_backbones_compares(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ("systems=gru_tbtt", "world.width=8", "seeds=0", "lrs=1e-3", "steps=2", "out=out")
    assert recipe("compare_backbones", *grid, "size=tiny", "eval.episodes=2", "data.episodes=4") == 0
    assert "frames/s" in capsys.readouterr().out
    assert Path("out/report.html").exists()


@pytest.mark.parametrize(
    ("name", "size", "word", "backbone"),
    [
        ("distracting_memory", "world.width=8", "last reward", "gru"),
        ("multi_doors_keys", "world.keys=2", "doors in the view, open or closed", "s4"),
    ],
)
def test_a_tile_worlds_recipe_takes_two_steps(recipe: Recipe, name: str, size: str, word: str, backbone: str) -> None:
    overrides = (size, f"backbone={backbone}", "size=tiny", "run_dir=run", *TWO_STEPS)
    assert recipe(name, *overrides) == 0
    assert word in Path("run/evaluation.md").read_text()
    config = load_config(Path("run/config.json"))
    assert config.model is not None
    assert config.model.latent == ModelConfig.for_size("tiny").latent
    assert config.data.sampler == "episodes"


@pytest.mark.parametrize("recipe", ["distracting_memory", "multi_doors_keys"])
def test_a_tile_worlds_recipe_gives_a_preset_its_own_numbers(recipe: str) -> None:
    config = compose(part(recipe, "config")(), ["preset=s4wm-2d"])
    heads = {"reward_head": recipe == "distracting_memory", "reward_scale": config.model.reward_scale}
    paper = get_preset("s4wm-2d")
    assert config.model == dataclasses.replace(ModelConfig.for_size("2d"), **paper.model, **heads)
    assert config.backbone == S4Config.for_size("2d")
    assert (config.train.lr, config.train.schedule, config.train.clip) == (1e-3, "cosine", 1000.0)
    assert config.data.batch_size == 8


@pytest.mark.reported(
    "friction",
    "",
    "a command from the top of a recipe, with its remark, pasted into a shell",
    "the remark is a comment",
)
@pytest.mark.reported("names", "", "such a command in zsh, where `[1,2]` is a pattern", "it is quoted")
@pytest.mark.parametrize("name", ["memory_maze", "distracting_memory", "multi_doors_keys", "moving_mnist"])
def test_the_commands_in_a_recipes_page_are_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = commands_of_page(name)
    assert len(commands) > 4
    base = part(name, "config")()
    for command in commands:
        bare = re.sub(r"#.*|\"[^\"]*\"", "", command)
        assert not re.search(r"[][*?{}|~]", bare), "what a shell would take for a pattern or a pipe is quoted"
        words = shlex.split(command, comments=True)
        words = words[words.index(f"recipes/{name}.py") + 1 :]
        if "-m" in words:
            words = expand_sweep([word for word in words if word != "-m"])[-1]
        assert compose(base, words).seed >= 0


@pytest.mark.parametrize("name", ["memory_probes", "two_rooms", "compare_backbones", "video_prediction"])
def test_the_commands_in_a_comparisons_page_can_be_planned(
    name: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "video_prediction":
        make = [
            "data",
            "make",
            "moving_mnist_slow",
            "side=32",
            "--episodes",
            "12",
            "--out",
            "ARCHIVE",
            "--workers",
            "0",
        ]
        assert main(make) == 0
    monkeypatch.setattr("wmkit.comparison.command._run_and_report", lambda *cells, **settings: 3)  # all planned
    commands = commands_of_page(name)
    assert len(commands) > 2
    for command in commands:
        words = shlex.split(command, comments=True)
        assert recipe(name, *words[words.index(f"recipes/{name}.py") + 1 :], "seeds=0", "lrs=1e-3") == 3, (
            capsys.readouterr().err
        )


@pytest.mark.early
@pytest.mark.usefixtures("cells_in_this_process")
def test_video_prediction_ends_with_a_table_of_ranks_and_measures_each_run_once(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted: list[int] = []

    def fit(source: EpisodeSource, length: int) -> ClipEncoder:
        fitted.append(length)
        return fit_clip_encoder(source, length, steps=1)

    monkeypatch.setattr("wmkit.evaluation.measures.frechet.fit_clip_encoder", fit)
    words = ["systems=rssm,svg_lp", "worlds=moving_mnist,moving_mnist_slow", "world.side=32", "seeds=0", "steps=2"]
    words += ["size=tiny", "data.batch_size=2", "data.length=8", "data.episode_length=20", "eval.context=4"]
    words += ["eval.horizon=16", "eval.episodes=3", "eval.batches=1", "out=videos", "jobs=1"]
    assert recipe("video_prediction", *words) == 0
    assert fitted == [16] * 4
    printed = " ".join(capsys.readouterr().out.split())
    assert "Mean rank over 2 worlds" in printed
    for world in ("moving_mnist", "moving_mnist_slow"):
        lines = (tmp_path / "videos" / f"videos-{world}_side32.md").read_text().splitlines()
        heading, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")
        ]
        assert heading[1:6] == ["ssim_skimage_l2", "psnr", "fd_corruptions_start", "mean rank", "seeds"]
        assert [row[0] for row in rows] == ["rssm", "svg_lp", "last context frame", "mean image", "training clips"]
        scores = np.array([[float(cell.split()[0]) for cell in row[1:4]] for row in rows[:2]])
        first_is_better = (scores[0] > scores[1]) == [True, True, False]
        assert [float(row[4]) for row in rows[:2]] == pytest.approx(
            [2 - first_is_better.mean(), 1 + first_is_better.mean()], abs=0.01
        )
        assert "3 clips are few for 64 features" in lines[-1] + lines[-2]
    report = (tmp_path / "videos" / "report.html").read_text()
    assert "PSNR against steps after the context on moving_mnist_side32" in report

    assert recipe("video_prediction", *words) == 0
    assert len(fitted) == 4, "what was measured is read"
    run = next(path.parent for path in (tmp_path / "videos" / "cells").glob("*svg_lp*/config.json"))
    for name in ("frechet.FrechetVideoDistance", "lpips.PerceptualDistance"):
        monkeypatch.setattr(f"wmkit.evaluation.measures.{name}.lacks", lambda self: "")
    assert part("video_prediction", "measures_of")(run) == ["similarity", "lpips_alex", "fvd"]


def test_the_printed_scores_of_table_e1_give_the_printed_mean_ranks() -> None:
    """SSIM, PSNR, LPIPS, FVD of MineRL Navigate, KTH Action, GQN Mazes and Moving MNIST."""
    scores = [
        [0.65, 21.20, 0.31, 2612, 0.85, 26.52, 0.25, 2316, 0.56, 13.35, 0.43, 1276, 0.64, 13.03, 0.26, 593],
        [0.56, 20.39, 0.36, 2618, 0.82, 25.21, 0.37, 2209, 0.46, 13.91, 0.41, 1210, 0.66, 12.93, 0.26, 578],
        [0.66, 23.48, 0.31, 2646, 0.83, 26.05, 0.22, 1915, 0.42, 13.56, 0.45, 1705, 0.64, 12.79, 0.28, 589],
        [0.56, 17.22, 0.32, 2666, 0.75, 21.46, 0.30, 1899, 0.55, 13.85, 0.40, 820, 0.64, 11.73, 0.31, 1392],
        [0.56, 18.50, 0.35, 3305, 0.77, 22.41, 0.24, 1815, 0.55, 13.51, 0.42, 1557, 0.58, 12.18, 0.36, 1274],
    ]
    ranks = part("video_prediction", "ranks_of")(np.array(scores), np.array([True, True, False, False] * 4))
    assert [f"{rank:.2f}" for rank in ranks.mean(1)] == ["2.25", "2.62", "2.62", "3.31", "3.62"]


def test_a_system_whose_score_is_no_number_is_ranked_last() -> None:
    ranks = part("video_prediction", "ranks_of")
    scores = np.array([[math.nan, math.nan], [0.1, math.inf], [0.2, 3.0]])
    assert ranks(scores, np.array([True, False])).tolist() == [[3, 2], [2, 2], [1, 1]]


SMALLEST = ["model.depth=2", "model.units=8", "backbone.width=8", "backbone.level_units=8", "eval.horizon=6"]


def test_moving_mnist_takes_two_steps(recipe: Recipe) -> None:
    """At the size and with the core of its own in the figures below."""
    overrides = ("backbone.levels=3", "backbone.factor=6", "backbone.core=s4", "size=tiny")
    assert recipe("moving_mnist", "run_dir=run", *SMALLEST, *TWO_STEPS, *overrides) == 0
    assert "last context frame" in Path("run/evaluation.md").read_text()


def test_moving_mnist_gives_a_preset_its_own_numbers() -> None:
    config = compose(part("moving_mnist", "config")(), ["preset=cwvae-mmnist"])
    paper = get_preset("cwvae-mmnist")
    assert {key: getattr(config.model, key) for key in paper.model} == paper.model
    assert {key: getattr(config.backbone, key) for key in paper.backbone_options} == paper.backbone_options
    assert {key: getattr(config.train, key) for key in paper.train} == paper.train
    assert (config.data.length, config.data.batch_size, config.train.decode_share) == (100, 50, 1.0)


@pytest.mark.usefixtures("cells_in_this_process")
def test_clockwork_figures_trains_and_draws(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("steps=2", "out=out", "eval.batches=1", "eval.episodes=2", "data.batch_size=2", *SMALLEST)
    assert recipe("clockwork_figures", "figure=10", *few) == 0
    assert "out/figure-10/k2/entropy.json and .png" in capsys.readouterr().out
    assert Path("out/figure-10/k2/entropy.png").stat().st_size > 0


def test_runs_of_a_figure_have_names_of_their_own() -> None:
    label = part("clockwork_figures", "label")
    worlds = (PlannedWorld.of(find_world("moving_mnist")),)
    runs = {"systems": (System("k4", ()),), "worlds": worlds, "seeds": (0,), "lrs": (1e-3,)}
    one = Plan(**runs, minutes=None, steps=3)
    grid = dataclasses.replace(one, seeds=(0, 1), lrs=(1e-3, 3e-4))
    assert [label(cell, one) for cell in one.cells()] == ["k4"]
    assert len({label(cell, grid) for cell in grid.cells()}) == 4


def test_clockwork_figures_names_its_figures(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe("clockwork_figures", "steps=2") == 2
    assert "one of 1, 8, 10, 11, table1, tableD1" in capsys.readouterr().err
    assert recipe("clockwork_figures", "--help") == 0
    assert "backbone is one of" in capsys.readouterr().out
    figures = part("clockwork_figures", "FIGURES").values()
    shown = {name for figure in figures for name in figure.together + figure.apart}
    assert shown == all_analyses().keys() - {"boundaries"}  # which is of VTA


def test_speed_measures_training_and_imagination(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WMKIT_SHORT", "1")
    assert recipe("speed", "--systems", "gru:window=4", "--out", "speed", "--device", "cpu") == 0
    assert capsys.readouterr().out.count("gru:window=4") == 2
    found = json.loads((tmp_path / "speed" / "speed.json").read_text())["systems"]["gru:window=4"]
    assert list(found["training"]) == ["4", "8"]
    assert list(found["imagination"]) == ["1", "2"]
    assert all(f["seconds"] > 0 and f["operations"] > 0 for f in found["training"].values())
    assert all(0 < f["step_seconds"] < f["seconds"] for f in found["imagination"].values())
    assert (tmp_path / "speed" / "speed.png").stat().st_size > 0
    assert "| gru:window=4 |" in (tmp_path / "speed" / "speed.md").read_text()


def test_speed_widens_a_backbone_until_it_is_large_enough() -> None:
    build, parameters = part("speed", "build"), part("speed", "parameters")
    plain, wide = build("s4:state_size=16", "tiny", 16), build("s4:state_size=16", "tiny", 16, least=150_000)
    assert parameters(plain) < 150_000 <= parameters(wide) < 153_000
    assert wide.dynamics.backbone.config.state_size == plain.dynamics.backbone.config.state_size == 16
    assert parameters(build("s4:mlp=false", "tiny", 16, least=10**9)) < 150_000, "its feedforward width has no use"
    with pytest.raises(ValueError, match="s4 has no option 'staet_size'; it has dropout"):
        build("s4:staet_size=16", "tiny", 16)
    with pytest.raises(ValueError, match="expected numbers, true or false"):
        build("s4:state_size=many", "tiny", 16)


@pytest.fixture
def corridor(tmp_path: Path) -> Path:
    """A saved, untrained model of a small corridor."""
    world = DistractingMemory(width=8, tile=4)
    model = build_world_model("gru", "tiny", world.image_shape, world.action_dim, reward_head=True)
    return save(model, tmp_path / "corridor", world)


def test_agents_act_in_the_dream_and_in_the_world(
    corridor: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert recipe("act_in_the_dream", str(corridor), "--episodes", "30") == 0
    told = capsys.readouterr()
    assert "pip install 'stable-baselines3>=2.9'" in told.err
    found = json.loads((corridor / "acting.json").read_text())
    assert list(found) == ["random actions", "a turn at random", "CEM, no memory", "CEM"]
    assert found["random actions"]["world"] < 0.2
    assert found["a turn at random"]["low"] < 0.5 < found["a turn at random"]["high"]


def test_a_plan_is_what_the_model_rewards() -> None:
    """Of a model that rewards another action in each state."""
    plan = part("act_in_the_dream", "plan")
    torch.manual_seed(0)

    def imagine(action: torch.Tensor, state: torch.Tensor, noise: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(features=action.gather(2, state[:, None, None].expand(-1, 2, 1))[..., 0])  # (B, H)

    fake = SimpleNamespace(
        action_dim=4, draw_noise=lambda *shape: torch.zeros(*shape, 1), imagine=imagine, predict_reward=lambda x: x
    )
    assert plan(fake, torch.tensor([2, 0, 3]), 2, candidates=128).tolist() == [2, 0, 3]


def test_ppo_learns_in_the_dream(corridor: Path) -> None:
    pytest.importorskip("stable_baselines3", reason="needs stable-baselines3")
    model, world = load(corridor), DistractingMemory(width=8, tile=4)
    agent = part("act_in_the_dream", "ppo")(model, world, 64, 0)
    assert agent(torch.zeros(5, model.feature_dim), None, 0).shape == (5,)
    assert not model.training


def test_acting_asks_for_a_run_of_the_corridor(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = DistractingMemory(width=8, tile=4)
    run = save(build_world_model("gru", "tiny", world.image_shape, world.action_dim), tmp_path / "run", world)
    assert recipe("act_in_the_dream", str(run)) == 2
    assert "expected a run of Distracting Memory with a reward head" in capsys.readouterr().err


def test_recipes_are_named_like_no_module_and_are_no_package() -> None:
    # A script's folder comes first on sys.path, so recipes/minigrid.py would hide MiniGrid.
    names = {path.stem for path in RECIPES.glob("*.py")}
    assert "__init__" not in names
    assert not names & set(sys.stdlib_module_names)
    assert not names & set(metadata.packages_distributions())
