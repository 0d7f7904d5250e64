"""`wmkit data` makes archives, says and shows what is in them, exports them, and refuses what cannot be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wmkit.cli.__main__ import main
from wmkit.data import EpisodeStore


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives train and test of a small tile world."""
    out = tmp_path_factory.mktemp("data") / "hall"
    words = ["distracting_memory", "width=8", "tile=4", "--episodes", "4", "--out", str(out), "--split", "0.5,0,0.5"]
    assert main(["data", "make", *words, "--workers", "0"]) == 0
    return out


def test_what_was_made_is_described(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", str(made)]) == 0
    printed = capsys.readouterr().out
    for part in ("train", "test"):
        assert f"{made / part}: 2 episodes of" in printed
        assert f"split {part}" in printed
    assert "images 20 x 20 with 3 channels, 7 actions" in printed
    assert "world distracting_memory: " in printed
    assert "width=8" in printed
    assert "tile=4" in printed
    assert "(T, 20, 20, 3)" in printed
    assert printed.count("map_tiles") == 1  # both archives have the same keys


def test_an_episode_is_shown_as_a_strip_a_gif_and_a_map_with_its_ground_truth(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "view", str(made), "--split", "test", "--episode", "1", "--out", str(tmp_path / "v")]) == 0
    printed = capsys.readouterr().out
    episode = EpisodeStore(made / "test").episode(1)
    assert f"hall-test, episode 1: {episode.length} steps" in printed
    for key in set(episode) - {"image", "is_first"}:
        assert key in printed
    assert str(episode["target_colors"].tolist()) in printed
    with Image.open(tmp_path / "v" / "episode.gif") as film:
        assert film.n_frames == episode.length
    for name in ("strip.png", "map.png"):
        with Image.open(tmp_path / "v" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10  # it shows something


def test_a_world_is_shown_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "view", "moving_mnist", "--split", "valid"]) == 0
    assert "no map: it has no map and agent_pos" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "views" / "moving_mnist-valid-0").iterdir()} == {
        "strip.png",
        "episode.gif",
    }


@pytest.mark.reported(
    "data",
    "",
    "`wmkit data` with an unknown world, setting or split, a folder without archives, an episode beyond the end",
    "status 2, one sentence",
)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["make", "ray_maz", "--episodes", "4", "--out", "o"], "Unknown world 'ray_maz'."),
        (["make", "ray_maze", "sizes=9", "--episodes", "4", "--out", "o"], "sizes"),
        (["make", "ray_maze", "size", "--episodes", "4", "--out", "o"], "size: expected a setting, as in size=11"),
        (["make", "ray_maze", "--episodes", "3", "--out", "o"], "3 episodes are too few for train, valid, test"),
        (["make", "ray_maze", "--episodes", "4", "--out", ""], "out: expected a folder, got ''"),
        (["make", "ray_maze", "--episodes", "4", "--out", "o", "--split", "x"], "--split: expected shares such as"),
        (["info", "nowhere"], "nowhere: expected an archive, a cache, or a folder with the archives"),
        (["view", "MADE", "width=16"], "width=16: settings are a world's"),
        (["view", "MADE", "--split", "valid"], "hall has train, test, got 'valid'"),
        (["view", "MADE", "--episode", "2"], "--episode: "),
        (["view", "moving_mnist", "--episode", "-1"], "--episode: expected 0 or more, got -1"),
        (["export", "MADE", "--format", "memory-maze", "--out", "o"], "episode 0: no 'maze_layout' among"),
    ],
)
def test_what_cannot_be_is_refused(
    made: Path,
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *(str(made) if word == "MADE" else word for word in words)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_maze_goes_out_and_comes_back_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ray_maze", "image_size=20", "--episodes", "1", "--out", str(tmp_path / "maze"), "--split", "1"]
    assert main(["data", "make", *words, "--workers", "0"]) == 0
    made = tmp_path / "maze" / "train"
    assert main(["data", "export", str(made), "--format", "memory-maze", "--out", str(tmp_path / "npz")]) == 0
    assert "npz: 1 episodes" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "npz"), "--out", str(tmp_path / "again"), "--split", "1"]) == 0
    one, other = EpisodeStore(made).episode(0), EpisodeStore(tmp_path / "again" / "train").episode(0)
    assert (one.steps.keys(), one.constants.keys()) == (other.steps.keys(), other.constants.keys())
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)
