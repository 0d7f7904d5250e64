"""Every recipe takes two tiny steps on a CPU and ends with a table and pictures."""

import dataclasses
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from wmkit.backbones.s4 import S4Config
from wmkit.build import get_preset
from wmkit.comparison.plan import Plan
from wmkit.comparison.system import System
from wmkit.config import ModelConfig
from wmkit.data import find_world
from wmkit.evaluation.run import evaluate_run
from wmkit.training.command import run_recipe
from wmkit.training.compose import compose

RECIPES = Path(__file__).parent.parent / "recipes"
TINY = {
    "data": {"length": 8, "batch_size": 2, "episode_length": 24, "workers": 0},
    "train": {"steps": 2, "device": "cpu", "threads": 1},
    "eval": {"episodes": 4, "context": 6, "horizon": 6},
}
TWO_STEPS = ["data.batch_size=2", "data.workers=0", "train.steps=2", "train.device=cpu", "train.threads=1"]
TWO_STEPS += ["eval.episodes=4", "eval.batches=1", "eval.reward_episodes=6", "eval.valid_reward_episodes=4"]
WORDS = [f"{group}.{key}={value}" for group, keys in TINY.items() for key, value in keys.items()]


@pytest.mark.parametrize("word", ["backbone=s4", "backbone=gru", "backbone=transformer_xl", "world=ray_two_rooms"])
def test_memory_maze_takes_two_steps(tmp_path: Path, word: str) -> None:
    command = [sys.executable, str(RECIPES / "memory_maze.py"), word, "size=tiny", "run_dir=run", *WORDS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reconstruction" in done.stdout
    run = tmp_path / "run"
    assert {"config.json", "evaluation.json", "metrics.jsonl", "pictures"} <= {path.name for path in run.iterdir()}
    assert (run / "pictures" / "imagination.gif").stat().st_size > 0


def test_compare_backbones_compares(tmp_path: Path) -> None:
    grid = ["systems=gru_tbtt", "world.width=8", "seeds=0", "lrs=1e-3", "steps=2", "out=out"]
    words = [*grid, "size=tiny", "eval.episodes=2", "data.episodes=4"]
    command = [sys.executable, str(RECIPES / "compare_backbones.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "generation error" in done.stdout
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("recipe", "size", "word", "backbone"),
    [
        ("distracting_memory", "world.width=8", "imagination", "s4"),
        ("distracting_memory", "world.width=8", "imagination", "gru"),
        ("distracting_memory", "world.width=8", "imagination", "transformer_xl"),
        ("multi_doors_keys", "world.keys=2", "door, open or shut", "s4"),
    ],
)
def test_a_tile_worlds_recipe_takes_two_steps(
    tmp_path: Path, recipe: str, size: str, word: str, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = runpy.run_path(str(RECIPES / f"{recipe}.py"))["config"]()
    words = [size, f"backbone={backbone}", "size=tiny", "run_dir=run", *TWO_STEPS]
    assert run_recipe(config, after=evaluate_run, words=words) == 0
    assert word in (tmp_path / "run" / "evaluation.md").read_text()
    composed = compose(config, words)
    assert composed.model is not None
    assert composed.model.latent == ModelConfig.for_size("tiny").latent
    assert composed.data.sampler == "episodes"


@pytest.mark.parametrize("recipe", ["distracting_memory", "multi_doors_keys"])
def test_a_tile_worlds_recipe_gives_a_preset_its_own_numbers(recipe: str) -> None:
    config = compose(runpy.run_path(str(RECIPES / f"{recipe}.py"))["config"](), ["preset=s4wm-2d"])
    heads = {"reward_head": recipe == "distracting_memory", "reward_scale": config.model.reward_scale}
    paper = get_preset("s4wm-2d")
    assert config.model == dataclasses.replace(ModelConfig.for_size("2d"), **paper.model, **heads)
    assert config.backbone == S4Config.for_size("2d")
    assert (config.train.lr, config.train.schedule, config.train.clip) == (1e-3, "cosine", 1000.0)
    assert config.data.batch_size == 8


SMALLEST = ["model.depth=2", "model.units=8", "backbone.width=8", "backbone.level_units=8", "eval.horizon=6"]


@pytest.mark.parametrize("words", [["backbone.levels=3", "backbone.factor=6"], ["backbone.core=s4", "size=tiny"]])
def test_moving_mnist_takes_two_steps(tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = runpy.run_path(str(RECIPES / "moving_mnist.py"))["config"]()
    assert run_recipe(config, after=evaluate_run, words=["run_dir=run", *SMALLEST, *TWO_STEPS, *words]) == 0
    assert "copy last context frame" in (tmp_path / "run" / "evaluation.md").read_text()


def test_moving_mnist_gives_a_preset_its_own_numbers() -> None:
    config = compose(runpy.run_path(str(RECIPES / "moving_mnist.py"))["config"](), ["preset=cwvae-mmnist"])
    paper = get_preset("cwvae-mmnist")
    assert {key: getattr(config.model, key) for key in paper.model} == paper.model
    assert {key: getattr(config.backbone, key) for key in paper.backbone_options} == paper.backbone_options
    assert {key: getattr(config.train, key) for key in paper.train} == paper.train
    assert (config.data.length, config.data.batch_size, config.train.decode_share) == (100, 50, 1.0)


def test_clockwork_figures_trains_and_draws(tmp_path: Path) -> None:
    words = ["figure=10", "steps=2", "out=out", "eval.batches=1", "eval.episodes=4", "data.batch_size=2", *SMALLEST]
    command = [sys.executable, str(RECIPES / "clockwork_figures.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wmkit levels entropy k2=out/cells/moving_mnist_side32-k2-lr0.001-seed0" in done.stdout
    assert (tmp_path / "out" / "figure-10" / "k2" / "entropy.png").stat().st_size > 0


def test_runs_of_a_figure_have_names_of_their_own() -> None:
    recipe = runpy.run_path(str(RECIPES / "clockwork_figures.py"))
    worlds = {"moving_mnist": find_world("moving_mnist")}
    runs = {"systems": (System("k4", ()),), "worlds": worlds, "seeds": (0,), "lrs": (1e-3,)}
    one = Plan(**runs, minutes=None, steps=3)
    grid = dataclasses.replace(one, seeds=(0, 1), lrs=(1e-3, 3e-4))
    assert [recipe["label"](cell, one) for cell in one.cells()] == ["k4"]
    assert len({recipe["label"](cell, grid) for cell in grid.cells()}) == 4


def test_clockwork_figures_names_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(RECIPES / "clockwork_figures.py"))["main"]
    assert main(["steps=2"]) == 2
    assert "one of 1, 8, 10, 11, table1, tableD1" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "backbone choices" in capsys.readouterr().out


def test_recipes_are_named_like_no_module_and_are_no_package() -> None:
    # A script's folder comes first on sys.path, so recipes/minigrid.py would hide MiniGrid.
    names = {path.stem for path in RECIPES.glob("*.py")}
    assert "__init__" not in names
    assert not names & set(sys.stdlib_module_names)
    assert not names & set(metadata.packages_distributions())
