"""What `import wmkit` offers for a loop or a script of one's own: `train`, `save`, `load`."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import wmkit
from wmkit import registry
from wmkit.cli.__main__ import main
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation import HeldOutValidation
from wmkit.training import RunFolder, Trainer, train
from wmkit_envs import DistractingMemory

SHAPES = {"image_shape": (3, 16, 16), "action_dim": 2}
LEAKY = """
import dataclasses
import torch
from wmkit import Backbone, BackboneConfig, register_backbone

@dataclasses.dataclass(kw_only=True)
class LeakyConfig(BackboneConfig):
    hidden: int = 8

@register_backbone("leaky", LeakyConfig)
class Leaky(Backbone):
    def __init__(self, input_dim, config=None):
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, (config or LeakyConfig()).hidden
        self.mix = torch.nn.Linear(input_dim, self.feature_dim)

    def initial_state(self, batch_size):
        return self.mix.weight.new_zeros(batch_size, self.feature_dim)

    def step(self, x, state):
        state = state + self.mix(x)
        return torch.tanh(state), state
"""


def test_what_is_offered_is_there_and_imported_when_it_is_asked_for() -> None:
    for code in (
        "import sys, wmkit; assert 'torch' not in sys.modules; wmkit.load; assert 'torch' in sys.modules",
        "import wmkit; assert {'s4', 'gru', 'clockwork'} <= set(wmkit.list_backbones())",
        "from wmkit.registry import get_entry; get_entry('clockwork')",
    ):
        subprocess.run([sys.executable, "-c", code], check=True)
    offered = [name for name in dir(wmkit) if not name.startswith("_")]
    assert {"Backbone", "WorldModel", "build_world_model", "load", "probe", "train"} <= set(offered)
    assert all(hasattr(wmkit, name) for name in offered)
    assert wmkit.probing.Probe is wmkit.probing.base.Probe
    with pytest.raises(AttributeError, match="'wmkit' has no attribute 'bild_world_model'"):
        _ = wmkit.bild_world_model


def test_a_library_that_is_missing_is_named_and_not_taken_for_a_wrong_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'polars'", name="polars")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="polars"):
        _ = wmkit.probing_of_ones_own


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(
        world=DistractingMemory(width=8, tile=4),
        backbone="gru",
        size="tiny",
        data=DataConfig(sampler="episodes", batch_size=2, workers=0),
        train=TrainConfig(steps=2, threads=1, eval_every=2, device="cpu"),
        eval=EvalConfig(episodes=2, batches=1, horizon=None, valid_reward_episodes=2),
    )


@pytest.fixture
def leaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of one's own with a registered backbone, that nobody has imported yet."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    (tmp_path / "leaky_of_a_friend.py").write_text(LEAKY)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "leaky_of_a_friend"
    sys.modules.pop("leaky_of_a_friend", None)


def same(a: wmkit.WorldModel, b: wmkit.WorldModel) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.reported(
    "friction", "", '`wmkit.train(config, "runs/x")`', "makes and opens the folder, gives a `Summary`"
)
@pytest.mark.reported("friction", "", "the same call again", "nothing is trained twice, the same `Summary`")
def test_train_takes_a_name_opens_the_folder_and_releases_it(config: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x"
    summary = wmkit.train(config, str(folder), HeldOutValidation(config))
    assert (summary.step, summary.stopped_by) == (2, None)
    assert (folder / "finished.json").exists()
    assert (folder / "pictures" / "latest.png").exists()
    assert wmkit.load(folder).image_shape == config.world.image_shape
    again = wmkit.train(config, folder)
    assert (again.step, again.best_loss) == (2, summary.best_loss)
    RunFolder(folder).open()


@pytest.mark.reported(
    "friction", "", "`wmkit.train` into a folder that holds other things", "`ValueError`, nothing changed"
)
@pytest.mark.reported(
    "friction", "", "`wmkit.train` with a config that the folder's run has not", "`ValueError`, the fields"
)
def test_train_refuses_a_folder_of_something_else(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "main.tex").touch()
    with pytest.raises(ValueError, match="holds no run"):
        wmkit.train(config, tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["main.tex"]
    wmkit.train(config, tmp_path / "run")
    with pytest.raises(ValueError, match=r"train\.lr: 0\.0003 in the checkpoint, 0\.01 now"):
        wmkit.train(dataclasses.replace(config, train=dataclasses.replace(config.train, lr=0.01)), tmp_path / "run")


@pytest.mark.reported(
    "friction",
    "",
    "a `str`, or a folder that is not open, where an open `RunFolder` is expected",
    "`ValueError`: the call",
)
@pytest.mark.reported("friction", "", "config and folder in the wrong order", "`ValueError`: the order")
@pytest.mark.reported("friction", "", "`validate=HeldOutValidation` without its config", "`ValueError`: what to write")
def test_what_is_given_in_the_wrong_form_is_said(config: RunConfig, tmp_path: Path) -> None:
    for folder in ("runs/x", Path("runs/x")):
        with pytest.raises(
            ValueError, match=r"expected an open RunFolder, got .*runs/x.*wmkit\.train\(config, folder\)"
        ):
            train(config, folder)
    with pytest.raises(ValueError, match=r"x is not open: call its open\(\), or wmkit\.train"):
        Trainer(config, RunFolder(tmp_path / "x"))
    with pytest.raises(ValueError, match="expected a RunConfig first"):
        wmkit.train("runs/x", config)
    with pytest.raises(ValueError, match=r"give HeldOutValidation\(config\)"):
        wmkit.train(config, tmp_path / "x", HeldOutValidation)
    with pytest.raises(ValueError, match="expected a WorldModel first"):
        wmkit.save(tmp_path, config)


@pytest.mark.reported(
    "friction",
    "",
    "a model of a loop of one's own is kept by `wmkit.save(model, folder)`",
    "`wmkit.load` gives it back",
)
@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "gru"},
        {"backbone": "clockwork"},
        {"preset": "s4wm-minutes", "kl_scale": 0.5, "reward_head": True},
        {"backbone": "transformer_xl", "posterior": "full"},
    ],
    ids=str,
)
def test_a_saved_model_is_loaded_again(options: dict[str, object], tmp_path: Path) -> None:
    size = {} if "preset" in options else {"size": "tiny"}
    model = wmkit.build_world_model(**size, **options, **SHAPES)
    assert wmkit.save(model, str(tmp_path / "own")) == tmp_path / "own"
    loaded = wmkit.load(tmp_path / "own")
    assert same(loaded, model)
    assert loaded.config == model.config
    with torch.no_grad():
        next(loaded.parameters()).add_(1)
    wmkit.save(loaded, tmp_path / "own")  # again, in place of the first
    assert same(wmkit.load(tmp_path / "own", "last"), loaded)


@pytest.mark.reported(
    "friction", "", "saving a model over a backbone of one's own", "`load` imports the module that has it"
)
def test_a_backbone_of_ones_own_is_found_again(leaky: str, tmp_path: Path) -> None:
    __import__(leaky)
    model = wmkit.build_world_model("leaky", "tiny", **SHAPES)
    wmkit.save(model, tmp_path / "own")
    sys.modules.pop(leaky)
    registry._entries.pop("leaky")
    assert same(wmkit.load(tmp_path / "own"), model)


@pytest.mark.reported(
    "friction", "", "saving a model whose backbone has no registered name", "`ValueError`: what to do"
)
@pytest.mark.reported("friction", "", "saving a model into a folder that holds a run", "`ValueError`, nothing changed")
def test_what_could_not_be_loaded_is_not_saved(config: RunConfig, leaky: str, tmp_path: Path) -> None:
    own = __import__(leaky).Leaky(32)
    with pytest.raises(ValueError, match=r"no registered config.*@register_backbone"):
        wmkit.save(wmkit.build_world_model(own, "tiny", **SHAPES), tmp_path / "own")
    model = wmkit.build_world_model("gru", "tiny", **SHAPES)
    wmkit.train(config, tmp_path / "run")
    for name in ("run", "run/config.json"):
        with pytest.raises(ValueError, match=r"holds something else|is not a folder"):
            wmkit.save(model, tmp_path / name)
    assert wmkit.load(tmp_path / "run").image_shape == config.world.image_shape


@pytest.mark.reported(
    "friction",
    "",
    "`wmkit imagine` on a model that was saved without its world",
    "asks for `--episodes-from`, shows no other world by a slip",
)
def test_a_model_saved_without_its_world_is_not_tried_on_another(
    config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = config.world
    model = wmkit.build_world_model("gru", "tiny", world.image_shape, world.action_dim)
    folder = wmkit.save(model, tmp_path / "own")
    assert main(["imagine", str(folder)]) == 2
    assert "saved without its world: name the episodes, --episodes-from WORLD" in capsys.readouterr().err
    assert main(["imagine", str(folder), "--episodes-from", "distracting_memory world.width=8 world.tile=4",
                 "--horizon", "3"]) == 0  # fmt: skip
    wmkit.save(model, folder, world)
    assert main(["imagine", str(folder), "--horizon", "3"]) == 0
    assert (folder / "pictures" / "imagined.gif").stat().st_size > 0
