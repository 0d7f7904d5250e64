"""`wmkit diagnose`: cards of named backbones and of classes of one's own, and what it says of others."""

import json
import sys
from pathlib import Path

import pytest

from wmkit.cli.__main__ import main
from wmkit.training.short import SHORT

MINE = """
import dataclasses
import torch
from wmkit import Backbone, BackboneConfig, register_backbone

@dataclasses.dataclass(kw_only=True)
class SumConfig(BackboneConfig):
    gain: float = 1.0

@register_backbone("their_sum", SumConfig)
class Sum(Backbone):
    def __init__(self, input_dim, config=None):
        super().__init__()
        self.input_dim = self.feature_dim = input_dim
        self.gain = torch.nn.Parameter(torch.tensor((config or SumConfig()).gain))

    def initial_state(self, batch_size):
        return self.gain.new_zeros(batch_size, self.input_dim)

    def step(self, x, state):
        state = state + self.gain * x
        return state, state

class Plain(Sum):
    pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_registry: None) -> Path:
    """A folder with a module of one's own; diagnoses are short."""
    (tmp_path / "their_sums.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "their_sums", raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv(SHORT, "1")
    return tmp_path


def test_a_backbone_of_a_plugin_gets_its_card_and_its_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["diagnose", "their_sum", "gain=0.5", "--plugins", "their_sums", "--tasks", "parity,s3", "--quick"]
    assert main([*words, "--width", "8"]) == 0
    said = capsys.readouterr().out
    assert "Memory card of their_sum gain=0.5" in said
    assert "words of S3" in said
    assert "their_sum gain=0.5 has a mean skill of" in said
    assert "of 8 beside" in said
    assert "those had width 64, 1 seed, 40% of the steps, this one width 8" in said
    (card,) = json.loads((here / "runs/diagnose-quick/cards.json").read_text())
    assert card["numbers"] == {"input_dim": 8, "gain": 0.5}
    assert card["costs"]["state_bytes"] == 32
    assert (here / "runs/diagnose-quick/cards.png").exists()


def test_a_class_and_a_name_are_diagnosed_side_by_side(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["diagnose", "their_sums:Plain", "gru", "--tasks", "parity", "--width", "8", "--out", "elsewhere"]
    assert main([*words, "--seeds", "2"]) == 0
    said = capsys.readouterr().out
    assert "At 1, 2 and 4 times the training length" in said
    assert sorted(path.name for path in (here / "elsewhere").iterdir()) == [
        "cards.json", "cards.png", "gru", "their_sums.Plain",
    ]  # fmt: skip
    records = sorted(path.name for path in (here / "elsewhere" / "gru").glob("parity-*.json"))
    assert records == ["parity-0.json", "parity-1.json"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["grou"], "Unknown backbone 'grou'. Did you mean 'gru'?"),
        (["gru", "s4", "layers=1"], "options of one backbone alone"),
        (["layers=1"], "expected a backbone"),
        (["gru", "--tasks", "pairity"], "Unknown task 'pairity'. Did you mean 'parity'?"),
        (["their_sums:Plain", "gain=2"], "Plain is not registered, so that it has no options"),
        (["clockwork"], "clockwork is a dynamics: only backbones are diagnosed"),
        (["their_sums:Nothing"], "cannot import their_sums:Nothing"),
    ],
)
def test_what_cannot_be_diagnosed_is_said(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", *words]) == 2
    assert complaint in capsys.readouterr().err
