"""The wraps of docs/examples keep the contract and are trained as plug-ins by a recipe."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wmkit import Backbone, registry
from wmkit.registry import get_entry
from wmkit.testing import check_backbone

pytestmark = pytest.mark.no_cover  # whole runs: other tests reach the lines

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
NAMES = ("torch_lstm", "hf_mamba")
WIDTH = 8

Build = Callable[..., Backbone]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Make a small backbone from the file of that name; what the file registers is forgotten afterwards."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    def run(name: str, **sizes: int) -> Backbone:
        runpy.run_path(str(EXAMPLES / f"{name}.py"))
        entry = get_entry(name)
        built: Backbone = entry.cls(WIDTH, entry.config(input_dim=WIDTH, **sizes))
        return built

    return run


def test_every_example_is_tested_linked_and_at_most_forty_lines_long() -> None:
    files = sorted(EXAMPLES.glob("*.py"))
    page = (ROOT / "docs" / "backbones.md").read_text()
    assert all(f"](examples/{file.name})" in page for file in files)
    assert {file.stem for file in files} == set(NAMES)
    assert all(len(file.read_text().splitlines()) <= 40 for file in files)


@pytest.mark.early
@pytest.mark.parametrize(("name", "sizes"), [("torch_lstm", {"hidden": 6}), ("hf_mamba", {"layers": 1})])
def test_the_contract_is_kept(build: Build, name: str, sizes: dict[str, int]) -> None:
    check_backbone(build(name, **sizes), longest=105, quick=True)


@pytest.mark.usefixtures("without_drawings")
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_it_as_a_plug_in(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["size=tiny", "data.length=8", "data.episode_length=24", "data.batch_size=2", "data.workers=0",
           "train.steps=3", "train.device=cpu", "train.threads=1", "eval.context=6", "eval.horizon=6",
           "eval.episodes=4", "eval.batches=1"]  # fmt: skip
    words = [f"plugins={name}", f"backbone={name}", "backbone.layers=1", f"run_dir={tmp_path / 'run'}"]
    recipe = str(ROOT / "recipes" / "memory_maze.py")
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [recipe, *words, *few])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(recipe, run_name="__main__")
    del sys.modules[name]
    assert "step 3/3" in capsys.readouterr().out
    assert (tmp_path / "run" / "evaluation.json").exists()
