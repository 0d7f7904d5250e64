"""The wraps of docs/examples keep the contract and are trained as plug-ins by a recipe."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wmkit import Backbone, registry, tree
from wmkit.registry import get_entry
from wmkit.testing import check_backbone

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
NAMES = ("torch_lstm", "hf_mamba")
B, T, WIDTH = 3, 12, 8

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


@pytest.fixture(params=NAMES)
def backbone(request: pytest.FixtureRequest, build: Build) -> Backbone:
    """One of two layers from each file."""
    return build(request.param, layers=2)


def test_every_example_is_tested_linked_and_at_most_forty_lines_long() -> None:
    files = sorted(EXAMPLES.glob("*.py"))
    page = (ROOT / "docs" / "backbones.md").read_text()
    assert all(f"](examples/{file.name})" in page for file in files)
    assert {file.stem for file in files} == set(NAMES)
    assert all(len(file.read_text().splitlines()) <= 40 for file in files)


def carried(backbone: Backbone) -> Any:
    """The state after other steps, as a caller has it who takes gradients through it."""
    state = backbone.scan(torch.randn(B, 5, WIDTH))[1]
    return tree.map_tree(lambda leaf: leaf.detach().requires_grad_(), state)


@pytest.mark.parametrize("start", ["fresh", "carried"])
@pytest.mark.parametrize("resets", [False, True])
def test_scan_equals_the_loop_over_step(backbone: Backbone, start: str, resets: bool) -> None:
    x = torch.randn(B, T, WIDTH, requires_grad=True)
    state = carried(backbone) if start == "carried" else None
    is_first = torch.rand(B, T) < 0.3 if resets else None
    wanted = [x, *backbone.parameters(), *tree.leaves(state or [])]
    found = []
    for scan in (backbone.scan, lambda *arguments: Backbone.scan(backbone, *arguments)):
        features, last = scan(x, state, is_first)
        results = [features, *tree.leaves(last)]
        loss = sum(result.square().sum() for result in results)
        assert isinstance(loss, Tensor)
        found.append(results + list(torch.autograd.grad(loss, wanted, materialize_grads=True)))
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    assert backbone.scan(x, state, is_first, False)[1] is None


def test_the_state_is_batch_first_and_never_written_to(backbone: Backbone) -> None:
    state = carried(backbone)
    fresh = backbone.initial_state(B)
    assert [leaf.shape for leaf in tree.leaves(state)] == [leaf.shape for leaf in tree.leaves(fresh)]
    assert {len(leaf) for leaf in tree.leaves(state)} == {B}
    before = [leaf.clone() for leaf in tree.leaves(state)]
    backbone.step(torch.randn(B, WIDTH), state)
    for leaf, copy in zip(tree.leaves(state), before, strict=True):
        assert torch.equal(leaf, copy)


@pytest.mark.parametrize(("name", "sizes"), [("torch_lstm", {"hidden": 6}), ("hf_mamba", {"layers": 1})])
def test_the_contract_is_kept(build: Build, name: str, sizes: dict[str, int]) -> None:
    check_backbone(build(name, **sizes), longest=105, quick=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_it_as_a_plug_in(name: str, tmp_path: Path) -> None:
    few = ["size=tiny", "data.length=8", "data.episode_length=24", "data.batch_size=2", "data.workers=0",
           "train.steps=3", "train.device=cpu", "train.threads=1", "eval.context=6", "eval.horizon=6",
           "eval.episodes=4", "eval.batches=1"]  # fmt: skip
    words = [f"plugins={name}", f"backbone={name}", "backbone.layers=1", f"run_dir={tmp_path / 'run'}"]
    command = [sys.executable, str(ROOT / "recipes" / "memory_maze.py"), *words, *few]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 3/3" in done.stdout
    assert (tmp_path / "run" / "evaluation.json").exists()
