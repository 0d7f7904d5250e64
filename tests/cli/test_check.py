"""`wmkit check`: which laws are kept, and what it says of parts that it cannot try."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from wmkit import BackboneConfig, register_backbone
from wmkit.cli.__main__ import main
from wmkit.dynamics import ClockworkConfig, ClockworkDynamics

HEALTHY = """
import torch
from wmkit import Backbone

class Last(Backbone):
    def __init__(self, input_dim):
        super().__init__()
        self.input_dim = self.feature_dim = input_dim
        self.mix = torch.nn.Linear(2 * input_dim, input_dim)

    def initial_state(self, batch_size):
        return self.mix.weight.new_zeros(batch_size, self.input_dim)

    def step(self, x, state):
        return self.mix(torch.cat([x, state], dim=1)), x.clone()

class Amnesic(Last):
    def step(self, x, state):
        return super().step(x, torch.zeros_like(state))

class NeedsMore(Last):
    def __init__(self, input_dim, depth):
        super().__init__(input_dim)

class Function:
    pass

number = 3
"""


@pytest.fixture
def module_in_cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_backbones.py").write_text(HEALTHY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delitem(sys.modules, "their_backbones", raising=False)
    return "their_backbones"


@pytest.mark.usefixtures("own_registry")
def test_check_says_that_a_class_is_registered_as_a_video_model_and_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    class VideoConfig(BackboneConfig):
        pass

    register_backbone("video", VideoConfig, kind="video_model")(nn.Identity)
    assert main(["check", "video"]) == 2
    assert "make it a subclass of wmkit.video_models.VideoModel" in capsys.readouterr().err


def test_check_tries_the_laws_of_a_video_model(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["depth=2", "code=4", "hidden=4", "--precision", "float64", "--laws", "6,11,12"]
    assert main(["check", "svg_lp", *words]) == 0
    assert capsys.readouterr().out.count("kept") == 3
    assert main(["check", "svg_lp", "--quick"]) == 2
    assert "--quick: of backbones only, and svg_lp is a video model; leave it out" in capsys.readouterr().err


@pytest.mark.usefixtures("own_registry")
def test_check_says_that_a_class_is_registered_as_dynamics_and_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    class ClockConfig(BackboneConfig):
        pass

    register_backbone("clock", ClockConfig, kind="dynamics")(nn.Identity)
    assert main(["check", "clock"]) == 2
    assert "make it a subclass of wmkit.dynamics.Dynamics" in capsys.readouterr().err


@pytest.mark.usefixtures("own_registry")
def test_check_shows_the_law_that_dynamics_break(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclasses.dataclass(kw_only=True)
    class HastyConfig(ClockworkConfig):
        pass

    @register_backbone("hasty", HastyConfig, kind="dynamics")
    class Hasty(ClockworkDynamics):
        def imagine(self, action, *, noise, state):
            return super().imagine(action, noise=torch.zeros_like(noise), state=self.initial_state(len(action)))

    assert main(["check", "hasty", "levels=1", "--laws", "7,8"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("broken") == 2
    assert "law 8, float64: " in printed


@pytest.mark.parametrize("options", [[], ["core=s4", "strides=[1,2]"], ["core={name: gru, hidden: 5}", "levels=2"]])
def test_check_tries_the_laws_of_dynamics_with_options_of_the_user(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["check", "clockwork", *options, "--precision", "float64", "--laws", "3,8"]) == 0
    printed = capsys.readouterr().out
    assert " ".join(["clockwork", *options]) in printed
    assert "imagination in pieces" in printed
    assert printed.count("kept") == 2


def test_check_takes_options_of_a_backbone_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "plain_gru", "hidden=5", "--quick", "--longest", "130"]) == 0
    assert capsys.readouterr().out.count("kept") == 20


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["clockwork", "cores=s4"], "ClockworkConfig: Key 'cores' not in 'ClockworkConfig'"),
        (["clockwork", "levels=many"], "ClockworkConfig: Value 'many' of type 'str' could not be converted to Integer"),
        (["clockwork", "levels"], "options are key=value, got 'levels'"),
        (["clockwork", "windows=both"], "ClockworkConfig.windows: expected one of causal, smoothing"),
        (["clockwork", "core=s9"], "Unknown backbone 's9'"),
        (["wmkit.dynamics:LatentDynamics"], 'is not registered: @register_backbone(..., kind="dynamics")'),
        (["clockwork", "--quick"], "--quick: of backbones only, and clockwork is dynamics; leave it out"),
        (["clockwork", "--length", "40", "--longest", "300"], "--length and --longest: of backbones only"),
        (["torch.nn:Identity", "size=3"], "torch.nn:Identity is not registered, so that it has no options"),
    ],
)
def test_check_refuses_options_with_advice(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_check_passes_a_healthy_class_from_the_current_folder(
    module_in_cwd: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", f"{module_in_cwd}:Last", "--quick", "--longest", "130"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("kept") == 20
    assert "broken" not in printed


def test_check_shows_the_broken_law_and_fails(module_in_cwd: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{module_in_cwd}:Amnesic", "--quick", "--longest", "130"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("broken") == 2
    assert "law 6, float32: scan: no gradient reaches state" in printed


def test_check_takes_a_registered_class_at_its_tiny_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "wmkit.backbones.gru:GRU", "--quick", "--precision", "float64", "--longest", "130"]) == 0
    assert capsys.readouterr().out.count("kept") == 10


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("grn", "Did you mean 'gru'?"),
        ("their_backbones:Missing", "cannot import their_backbones:Missing: AttributeError"),
        ("not_a_module:Last", "ModuleNotFoundError"),
        ("their_backbones.py:Last", "is not a package; write their_backbones:Last"),
        ("last", "my_module:MyBackbone, or registered by --plugins my_module"),
        ("their_backbones:number", "expected a class at their_backbones:number, found 3"),
        ("their_backbones:NeedsMore", "cannot be built by cls(16): TypeError"),
        ("their_backbones:Function", "cannot be built by cls(16)"),
        ("torch.nn:Identity", "expected an instance of a subclass of wmkit.Backbone"),
    ],
)
@pytest.mark.usefixtures("module_in_cwd")
def test_check_says_what_is_wrong_with_its_argument(
    target: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", target]) == 2
    assert sentence in capsys.readouterr().err


def test_check_imports_plugins_and_takes_a_size_a_precision_and_limits(
    module_in_cwd: str, capsys: pytest.CaptureFixture[str], own_registry: None
) -> None:
    code = """
import dataclasses
from wmkit import BackboneConfig, register_backbone
from their_backbones import Last

@register_backbone("last_of_all", BackboneConfig)
class LastOfAll(Last):
    def __init__(self, input_dim, config=None):
        super().__init__(input_dim)
"""
    Path("registers.py").write_text(code)
    words = ["--plugins", "registers", "--size", "small", "--precision", "float32", "--quick", "--longest", "150"]
    assert main(["check", "last_of_all", "input_dim=8", *words, "--length", "20", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("kept") == 10
    assert "float64" not in printed
    assert main(["check", "last_of_all", *words, "--laws", "3,7"]) == 0
    assert capsys.readouterr().out.count("kept") == 2
    for option, sentence in (
        (["--length", "0"], "expected length >= 1, got 0"),
        (["--laws", "all"], "--laws: expected numbers of laws such as 1,4, got 'all'"),
        (["--laws", "11"], "expected laws from 1 to 10, got [11]"),
        (["--tolerance", "nan"], "--tolerance: expected a positive number, got nan"),
        (["--tolerance", "-1"], "--tolerance: expected a positive number, got -1.0"),
    ):
        assert main(["check", "last_of_all", *words, *option]) == 2
        assert sentence in capsys.readouterr().err


def test_check_without_a_part_asks_for_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check"])
    assert "the following arguments are required: part\n" in capsys.readouterr().err
