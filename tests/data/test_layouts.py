"""Published sets of videos: which file is in which split, read from folders as they were published."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.test_folders import FRAMES, write_video
from wmkit.cli.__main__ import main
from wmkit.data import EpisodeStore, import_folder
from wmkit.data.layouts import open_layout


@pytest.mark.parametrize("by_action", [True, False])
def test_kth_is_split_by_person_and_grey(tmp_path: Path, by_action: bool) -> None:
    for person in (1, 2, 19, 20, 21, 25):
        for action in ("walking", "boxing"):
            folder = tmp_path / action if by_action else tmp_path
            folder.mkdir(exist_ok=True)
            write_video(folder / f"person{person:02d}_{action}_d1_uncomp.avi")
    write_video(tmp_path / "person26_walking_d1_uncomp.avi")
    (tmp_path / "person01_notes.txt").touch()
    files = open_layout("kth", tmp_path)
    split_of = dict(zip(files.names, files.splits or (), strict=True))
    assert len(split_of) == 12
    for person, split in ((1, "train"), (19, "train"), (20, "valid"), (21, "test"), (25, "test")):
        assert split_of[f"person{person:02d}_boxing_d1_uncomp.avi"] == split
    stores = import_folder(tmp_path, tmp_path / "out", layout="kth", length=3, size=8, say=lambda note: None)
    assert {part: len(store) for part, store in stores.items()} == {"train": 12, "valid": 4, "test": 8}
    assert stores["test"].image_shape == (1, 8, 8)
    grey = stores["test"].episode(1)["image"][..., 0].mean((1, 2))
    np.testing.assert_allclose(grey, FRAMES[3:, 0, 0, 0], atol=12)


@pytest.mark.parametrize("name", ["gqn_mazes", "minerl_navigate"])
def test_videos_in_folders_keep_their_split_and_every_twentieth_validates(tmp_path: Path, name: str) -> None:
    root = tmp_path / "copy" / name
    for split, number in (("train", 41), ("test", 3)):
        (root / split).mkdir(parents=True)
        for index in range(number):
            (root / split / f"{index}.mp4").touch()
    beside = tmp_path / "copy" / "__MACOSX" / name / "test"  # what an archive made by macOS holds as well
    beside.mkdir(parents=True)
    (beside / "._0.mp4").touch()
    files = open_layout(name, tmp_path / "copy")
    of = dict(zip([str(path.relative_to(root)) for path in files.places], files.splits or (), strict=True))
    assert [of[f"train/{index}.mp4"] for index in (18, 19, 20, 39, 40)] == ["train", "valid", "train", "valid", "train"]
    assert [split for path, split in of.items() if path.startswith("test")] == ["test"] * 3


def test_a_copy_without_its_test_videos_is_refused_and_so_are_shares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train").mkdir()
    write_video(tmp_path / "train" / "0.mp4")
    words = ["import", str(tmp_path), "--out", str(tmp_path / "out"), "--layout"]
    assert main([*words, "gqn_mazes"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no videos of gqn_mazes for test. Expected train/*.mp4 and test/*.mp4" in said
    assert main([*words, "kht"]) == 2
    assert "Did you mean 'kth'?" in capsys.readouterr().err
    assert main([*words, "kth", "--split", "1"]) == 2
    assert "split: kth has its own, leave it out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_cuts_strides_and_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, number in (("train", 2), ("test", 2)):
        (tmp_path / "copy" / split).mkdir(parents=True)
        for index in range(number):
            write_video(tmp_path / "copy" / split / f"{index}.mp4")
    words = ["import", str(tmp_path / "copy"), "--out", str(tmp_path / "out"), "--layout", "minerl_navigate"]
    assert main([*words, "--length", "2", "--stride", "2"]) == 0
    printed = capsys.readouterr().out
    assert "Recordings: 4, cut into 4 episodes of 2; frames left out at their ends: 4." in printed
    assert {part: len(EpisodeStore(tmp_path / "out" / part)) for part in ("train", "test")} == {"train": 2, "test": 2}
