"""Every recipe takes two tiny steps on a CPU and ends with a table and pictures."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

RECIPES = Path(__file__).parent.parent / "recipes"
TINY = {
    "data": {"length": 8, "batch_size": 2, "episode_length": 24, "workers": 0},
    "train": {"steps": 2, "device": "cpu", "threads": 1},
    "eval": {"episodes": 4, "context": 6, "horizon": 6},
}
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
    grid = ["systems=gru_tbtt", "worlds=distracting_memory_8_4px", "seeds=0", "lrs=1e-3", "steps=2", "out=out"]
    words = [*grid, "size=tiny", "eval.episodes=2", "data.episodes=4"]
    command = [sys.executable, str(RECIPES / "compare_backbones.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "generation error" in done.stdout
    assert (tmp_path / "out" / "report.html").exists()


def test_recipes_are_named_like_no_module_and_are_no_package() -> None:
    # A script's folder comes first on sys.path, so recipes/minigrid.py would hide MiniGrid.
    names = {path.stem for path in RECIPES.glob("*.py")}
    assert "__init__" not in names
    assert not names & set(sys.stdlib_module_names)
    assert not names & set(metadata.packages_distributions())
