"""The code in README and on the page of backbones runs; their tables name every backbone."""

import re
from pathlib import Path

import pytest

from wmkit import list_backbones, registry
from wmkit.evaluation.digits.features import fit_feature_probe
from wmkit.evaluation.digits.frames import fit_frame_probe

ROOT = Path(__file__).parents[1]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "backbones.md"


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [README, PAGE], ids=["readme", "backbones"])
def test_the_code_on_the_page_runs_and_its_backbone_keeps_the_contract(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    blocks = python_blocks(page)
    assert len(blocks) == 2
    names: dict[str, object] = {"__name__": page.stem}
    exec("\n".join(blocks), names)
    assert "leaky" in list_backbones("backbone")


@pytest.mark.parametrize("page", ["video", "clockwork"])
def test_the_code_on_pages_about_video_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for fitting in (fit_frame_probe, fit_feature_probe):
        monkeypatch.setitem(fitting.__kwdefaults__, "steps", 2)
    blocks = python_blocks(ROOT / "docs" / f"{page}.md")
    assert len(blocks) == 2
    exec("\n".join(blocks), {"__name__": page})


def test_a_backbone_of_ones_own_takes_twenty_lines_or_so() -> None:
    block = next(block for block in python_blocks(README) if "register_backbone(" in block)
    lines = block.split("@register_backbone")[1].strip().splitlines()
    assert len([line for line in lines if line.strip()]) <= 20


@pytest.mark.parametrize("page", [README, PAGE], ids=["readme", "backbones"])
def test_the_page_has_every_backbone(page: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", page.read_text(), re.MULTILINE)
    assert sorted(rows) == list_backbones("backbone")


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.stem)
def test_links_and_pictures_of_the_page_exist(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_files_named_in_the_walk_of_one_batch_exist() -> None:
    walk = README.read_text().split("## The walk of one batch")[1].split("\n## ")[0]
    missing = [name for name in re.findall(r"`([\w/]+/[\w/]+\.py)`", walk) if not (ROOT / name).exists()]
    assert not missing
