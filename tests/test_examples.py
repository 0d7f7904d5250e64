"""The wraps of docs/examples keep the contract and are trained as plug-ins by a recipe; a peer's model is probed, and
an agent of others learns in a dream.
"""

import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import wmkit
from wmkit import Backbone, registry
from wmkit.probing import Fit, ForeignModel, Plan
from wmkit.probing.features import ROWS
from wmkit.registry import get_entry
from wmkit.testing import check_backbone

pytestmark = pytest.mark.no_cover  # whole runs: other tests reach the lines

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
NAMES = ("torch_lstm", "hf_mamba")
PEER = EXAMPLES / "probe_dreamerv3_torch.py"
CHECKOUT = "WMKIT_PEER_DREAMERV3_TORCH"
"""In the environment: where a checkout of NM512/dreamerv3-torch is."""
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


def test_every_wrap_is_tested_linked_and_at_most_forty_lines_long() -> None:
    files = sorted({*EXAMPLES.glob("*.py")} - {PEER})
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


def test_without_a_checkout_of_the_peer_it_says_what_lacks_and_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("models.py", "tools.py"):
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "argv", [str(PEER), str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(PEER), run_name="__main__")
    told = " ".join(capsys.readouterr().err.split())
    assert f"{tmp_path} has no networks.py, configs.yaml; git clone https://github.com/NM512/dreamerv3-torch" in told


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dict[str, Any], Any, ForeignModel]]:
    """What the example has, the peer's model after two steps, and that model in three functions."""
    if CHECKOUT not in os.environ:
        pytest.skip(f"needs {CHECKOUT}, the folder of a checkout of NM512/dreamerv3-torch")
    checkout = Path(os.environ[CHECKOUT])
    monkeypatch.syspath_prepend(checkout)
    example = runpy.run_path(str(PEER))
    build, wrapped = example["build"], example["wrapped"]
    torch.manual_seed(0)
    model = build(checkout)
    example["train"](model, 2, episodes=3, rows=2, length=8)
    yield example, model, wrapped(model, make=lambda seed: wrapped(build(checkout)))
    for name in ("models", "networks", "tools"):
        del sys.modules[name]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the peer's
def test_the_world_model_of_the_peer_is_probed_with_every_row(peer: tuple[dict[str, Any], Any, ForeignModel]) -> None:
    example, _, friend = peer
    plan = Plan(seeds=1, episodes=2, held_out=2, length=12, every=4, heads=("linear",), fit=Fit(steps=2, rows=4))
    found = wmkit.probe(friend, example["WORLD"], ["objects"], plan=plan)
    assert set(found.steps.predictors("objects_linear")) == {*ROWS} - {"inputs"}  # `objects` is told nothing
    assert set(found.by_axis["swap"].predictors("follows_donor")) == {"stoch", "deter", "logit"}


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_episode_is_read_as_the_peer_reads_it(peer: tuple[dict[str, Any], Any, ForeignModel]) -> None:
    example, model, friend = peer
    episode = example["WORLD"].generate(seed=0, split="test", index=0, length=6)
    image, action = torch.from_numpy(episode["image"])[None], torch.from_numpy(episode["action"])[None]
    with friend.reading():
        features, state = friend.observe(image.movedim(-1, 2), action, [0])
        ahead, _ = friend.imagine(action, state, [0])
        data = model.preprocess({key: episode[key][None] for key in ("image", "is_first", "is_terminal")})
        embedding = model.encoder(data)
        torch.manual_seed(0)
        post, _ = model.dynamics.observe(embedding, action, data["is_first"])
        torch.manual_seed(1)
        prior = model.dynamics.imagine_with_action(action, {key: value[:, -1] for key, value in post.items()})
        frames = model.heads["decoder"](features)["image"].mode()
        torch.testing.assert_close(features, model.dynamics.get_feat(post))
        torch.testing.assert_close(ahead, model.dynamics.get_feat(prior))
        torch.testing.assert_close(friend.decode(features), frames.movedim(-1, 2))
