"""The code on the pages under docs/ runs."""

import re
from pathlib import Path

import pytest

from wmkit import list_backbones, registry

PAGE = Path(__file__).parents[1] / "docs" / "backbones.md"


def test_the_backbone_on_the_page_registers_and_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    exec("\n".join(blocks), {"__name__": "docs_backbones"})
    assert "leaky" in list_backbones("backbone")


def test_the_page_has_every_backbone() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert rows == list_backbones("backbone")
