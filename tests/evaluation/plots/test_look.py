"""Figures look as here, whatever matplotlib was told and whatever runs are called."""

from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib.figure import Figure

from wmkit.evaluation.plots.figures import draw_strip
from wmkit.evaluation.plots.look import own_look
from wmkit.evaluation.plots.video import Video


def strip(path: Path, title: str = "A world") -> bytes:
    frames = torch.arange(2 * 3 * 8 * 8, dtype=torch.uint8).reshape(1, 2, 3, 8, 8)
    draw_strip(Video(frames, frames, 1), path, title)
    return path.read_bytes()


THEIRS = {
    "LaTeX": {"text.usetex": True},
    "a font that is not there": {"font.family": "No Such Font"},
    "savefig": {"savefig.bbox": "tight", "savefig.dpi": 31, "savefig.transparent": True, "savefig.format": "pdf"},
    "sizes": {"font.size": 31, "axes.titlesize": 40, "figure.dpi": 300, "figure.autolayout": True},
}


@pytest.mark.reported(
    "settings",
    "",
    "a matplotlibrc with `text.usetex`, a missing font, `savefig.*`, other sizes",
    "the same picture, byte for byte",
)
@pytest.mark.parametrize("settings", THEIRS)
def test_a_picture_is_the_same_under_any_matplotlibrc(settings: str, tmp_path: Path) -> None:
    expected = strip(tmp_path / "ours.png")
    with matplotlib.rc_context(THEIRS[settings]):
        assert strip(tmp_path / "theirs.png") == expected
        assert matplotlib.rcParams["text.usetex"] is (settings == "LaTeX")


@pytest.mark.reported(
    "names",
    "",
    "a run, archive or label with `$`, `_{`, or letters that the font lacks",
    "a picture whose title has them as text",
)
@pytest.mark.parametrize("title", ["a$b^$ and $x", "$\\frac{", "日本 maze", "a_{b", "100 % [x]"])
def test_names_in_titles_are_text(title: str, tmp_path: Path) -> None:
    assert strip(tmp_path / "strip.png", title).startswith(b"\x89PNG")


@pytest.mark.reported(
    "settings", "", "a plug-in's figure inside `own_look`", "its own settings count there, and end with it"
)
def test_settings_of_ours_count_and_end() -> None:
    before = dict(matplotlib.rcParams)
    with own_look({"font.size": 7}):
        assert Figure().text(0, 0, "x").get_fontsize() == 7
    assert dict(matplotlib.rcParams) == before
