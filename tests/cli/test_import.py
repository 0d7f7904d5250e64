"""`wmkit import` writes archives that a recipe trains on, and refuses what cannot be."""

from pathlib import Path

import numpy as np
import pytest

from wmkit.cli.__main__ import main
from wmkit.data import EpisodeStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(5):
        image = np.full((6, 12, 12, 3), number, np.uint8)
        np.savez(folder / f"{number}.npz", frames=image, action=np.arange(6) % 3)
    return folder


def test_a_folder_is_imported_with_what_was_changed_and_where_it_went(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", str(folder), "--out", str(tmp_path / "out"), "--rename", "frames=image", "--actions", "after"]
    for _ in range(2):  # the second time there is nothing left to do
        assert main(words) == 0
        printed = capsys.readouterr().out
        assert "Images of 12 x 12 pixels (height x width) are resized to 10 x 10." in printed
        assert "one-hot of width 3" in printed
        assert "train: 2 episodes of 6 steps, images 10 x 10 with 3 channels, 3 actions" in printed
    for split, count in (("train", 2), ("valid", 1), ("test", 2)):
        assert len(EpisodeStore(tmp_path / "out" / split)) == count


@pytest.mark.reported(
    "data",
    "",
    "`wmkit import` with an empty or missing folder, a split or a size that is none",
    "status 2, one sentence",
)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["", "--out", "out"], "folder: expected a folder, got nothing"),
        (["recordings", "--out", ""], "out: expected a folder, got nothing"),
        (["nowhere", "--out", "out"], "nowhere: there is no such folder"),
        (["recordings", "--out", "out"], "0.npz: no 'image' among ['action', 'frames']; say which it is"),
        (["recordings", "--out", "out", "--rename", "frames"], "--rename: expected old=new"),
        (["recordings", "--out", "out", "--split", "most"], "--split: expected shares such as 0.8,0.1,0.1, got 'most'"),
        (
            ["recordings", "--out", "out", "--rename", "frames=image", "--size", "50"],
            "size: expected a side that models",
        ),
    ],
)
def test_what_cannot_be_imported_is_refused(
    folder: Path,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    assert main(["import", *words]) == 2
    assert said in capsys.readouterr().err
