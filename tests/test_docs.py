"""The code on every page runs; links, images, anchors and named files exist; tables name every backbone."""

import re
from pathlib import Path

import pytest

from wmkit import list_backbones, registry
from wmkit.diagnostics import all_tasks
from wmkit.evaluation import fit_feature_probe, fit_frame_probe
from wmkit.evaluation.measures import base
from wmkit.testing import check_backbone

pytestmark = pytest.mark.no_cover  # whole runs: other tests reach the lines

ROOT = Path(__file__).parents[1]
CITED = re.compile(r"\b(docs/[\w/-]+\.md)#?([\w-]*)")
"""A page, and the heading if one is named."""
README, PAGE = ROOT / "README.md", ROOT / "docs" / "backbones.md"
ALL = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in ALL if "```python" in page.read_text() and page.stem != "your_data"]
"""That one records for a while: tests/test_your_data.py walks it with fewer recordings."""


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a page registers is forgotten afterwards, probes and checks are short, files go to `tmp_path`."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(base._measures, "by_name", base.all_measures())
    monkeypatch.setattr("wmkit.diagnostics.base._tasks.by_name", all_tasks())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for fitting in (fit_frame_probe, fit_feature_probe):
        monkeypatch.setitem(fitting.__kwdefaults__, "steps", 2)
    for option, value in {"quick": True, "longest": 130}.items():
        monkeypatch.setitem(check_backbone.__kwdefaults__, option, value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.usefixtures("examples")
def test_the_code_on_the_page_runs(page: Path) -> None:
    """The blocks of a page follow each other."""
    names: dict[str, object] = {"__name__": page.stem}
    exec("\n".join(python_blocks(page)), names)
    assert "Leaky" not in names or "leaky" in list_backbones("backbone")


def test_a_backbone_of_ones_own_takes_twenty_lines_or_so() -> None:
    block = next(block for block in python_blocks(README) if "register_backbone(" in block)
    lines = block.split("@register_backbone")[1].strip().splitlines()
    assert len([line for line in lines if line.strip()]) <= 20


@pytest.mark.parametrize("page", [README, PAGE], ids=["readme", "backbones"])
def test_the_page_has_every_backbone(page: Path) -> None:
    table = page.read_text().split("\n## Backbones\n")[-1]  # README has tables of results before
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(rows) == list_backbones("backbone")


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_links_and_images_of_the_page_exist(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)]*)\)", page.read_text())
    assert not [target for target in targets if not _exists(page, *target.partition("#")[::2])]


def _exists(page: Path, name: str, anchor: str) -> bool:
    """Whether the file is there, and a heading that makes the anchor."""
    path = page.parent / name if name else page
    if not anchor:
        return path.exists()
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_anchors_that_code_cites_exist() -> None:
    sources = [
        path for folder in ("wmkit", "wmkit_kernels", "envs", "recipes") for path in (ROOT / folder).rglob("*.py")
    ]
    cited = {(name, anchor) for path in sources for name, anchor in CITED.findall(path.read_text())}
    assert cited
    assert not [both for both in cited if not _exists(ROOT / "README.md", *both)]


def test_files_named_in_the_readme_exist() -> None:
    names = re.findall(r"`((?:wmkit|envs|recipes)[\w/]*/[\w/]+\.py)`", README.read_text())
    assert len(names) > 7  # the way of a batch
    assert not [name for name in names if not (ROOT / name).exists()]


def test_files_and_folders_where_to_change_what_exist() -> None:
    names = re.findall(
        r"`((?:wmkit|wmkit_kernels|envs|benchmarks|tests|docs|recipes)/[\w/.]+)`",
        (ROOT / "CONTRIBUTING.md").read_text(),
    )
    assert len(names) > 60
    assert not [name for name in names if not (ROOT / name).exists()]


def test_the_map_has_every_folder_of_the_package() -> None:
    block = README.read_text().split("## Where things are")[1].split("\n\nThe way of a batch")[0]
    named = re.findall(r"^      (\w+)/ ", block, re.MULTILINE)
    folders = [path.parent.name for path in (ROOT / "wmkit").glob("*/__init__.py")]
    assert sorted(named) == sorted(folders)
