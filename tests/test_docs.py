"""The code in README and on the page of backbones runs; their tables name every backbone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from wmkit import list_backbones, registry
from wmkit.data import Episode, find_world, open_source
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


def test_an_archive_of_unseen_episodes_has_none_of_training(tmp_path: Path) -> None:
    script = [sys.executable, "docs/unseen_episodes.py", "distracting_memory_8_4px", str(tmp_path / "unseen"), "300"]
    for _ in range(2):  # the second call finds everything there
        told = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    unseen, world = open_source(tmp_path / "unseen", split="test"), find_world("distracting_memory_8_4px")
    trained = {_digest(world.generate(seed=0, index=index)) for index in range(300)}
    tested = [_digest(world.generate(seed=0, split="test", index=index)) for index in range(400)]
    assert [_digest(unseen.episode(index)) for index in range(256)] == [x for x in tested if x not in trained][:256]
    assert "of test 0.." in told
    assert trained & set(tested[:256])  # it had something to leave out
    more = subprocess.run([*script[:-1], "3000"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (more.returncode, "choose another folder" in more.stderr) == (2, True)


def test_a_world_that_has_no_unseen_episodes_is_told(tmp_path: Path) -> None:
    script = [sys.executable, "docs/unseen_episodes.py", "multi_doors_keys_2_4px", str(tmp_path / "unseen"), "5000"]
    told = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (told.returncode, "test episodes 0 are not among 5,000 of training" in told.stderr) == (2, True)


def _digest(episode: Episode) -> bytes:
    return episode["tiles"].tobytes() + episode["action"].tobytes()
