"""Files as Memory Maze's data set has them are read, ours are written so, and broken ones refused in a sentence."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmkit.data import Episode, EpisodeStore, FolderEpisodes, WholeEpisodes, export_memory_maze, import_folder
from wmkit.data.memory_maze import CONSTANT

SIZE, OBJECTS = 5, 3


def recorded(number: int, length: int) -> dict[str, Any]:
    """An episode as the published files have it: every key with a time axis, in double precision."""
    rng = np.random.default_rng(number)
    action = np.eye(6)[rng.integers(0, 6, length)]
    action[0] = 0
    targets = rng.uniform(0, SIZE, (OBJECTS, 2))
    return {
        "image": rng.integers(0, 256, (length, 8, 8, 3), dtype=np.uint8),
        "action": action,
        "reward": (rng.random(length) < 0.1).astype(np.float64),
        "maze_layout": np.tile(rng.integers(0, 2, (SIZE, SIZE), dtype=np.uint8), (length, 1, 1)),
        "agent_pos": rng.uniform(0, SIZE, (length, 2)),
        "agent_dir": rng.normal(size=(length, 2)),
        "targets_pos": np.tile(targets, (length, 1, 1)),
        "targets_vec": rng.normal(size=(length, OBJECTS, 2)),
        "target_pos": targets[rng.integers(0, OBJECTS, length)],
        "target_vec": rng.normal(size=(length, 2)),
        "target_color": rng.random((length, 3)),
    }


def as_pydreamer(arrays: dict[str, Any]) -> dict[str, Any]:
    """The same with images (H, W, C, T) and the flags of PyDreamer."""
    others = {key: value for key, value in arrays.items() if key != "image"}
    length = len(arrays["reward"])
    flags = {"reset": np.arange(length) == 0, "terminal": np.zeros(length, bool)}
    return {**others, "image_t": arrays["image"].transpose(1, 2, 3, 0), **flags}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    return path


@pytest.mark.reported(
    "data",
    "",
    "`wmkit import` of Memory Maze's files, every key with a time axis, images THWC or HWCT, 1000 or 1001 steps",
    "`maze_layout` (h, w) and `targets_pos` (k, 2) are constants; in a batch (B, T, h, w)",
)
def test_published_files_are_imported_with_constants_that_have_no_time_axis(folder: Path, tmp_path: Path) -> None:
    given = [recorded(number, length) for number, length in enumerate((11, 10, 11))]
    for number, arrays in enumerate(given):
        np.savez(folder / f"{number}.npz", **(as_pydreamer(arrays) if number == 1 else arrays))
    store = import_folder(folder, tmp_path / "out", split=(1,), say=lambda note: None)["train"]
    for number, arrays in enumerate(given):
        episode = store.episode(number)
        assert episode.constants.keys() == {"maze_layout", "targets_pos"}
        for key, value in arrays.items():
            wanted = value[0] if key in CONSTANT else value
            wanted = wanted.astype(np.float32) if wanted.dtype.kind == "f" else wanted
            np.testing.assert_array_equal(episode[key], wanted, err_msg=key)
        assert episode["is_first"].tolist() == [True] + [False] * (episode.length - 1)
    batch = next(WholeEpisodes(EpisodeStore(tmp_path / "out" / "train"), 3, keys=["maze_layout", "targets_pos"]))
    assert batch.extras["maze_layout"].shape == (3, 11, SIZE, SIZE)
    assert batch.extras["targets_pos"].shape == (3, 11, OBJECTS, 2)


def change(key: str, time: int) -> Any:
    def changed(arrays: dict[str, Any]) -> None:
        arrays[key] = arrays[key].copy()
        arrays[key][time] += 1

    return changed


def put(key: str, value: Any) -> Any:
    return lambda arrays: arrays.update({key: value})


@pytest.mark.reported(
    "data",
    "",
    "a file of Memory Maze that lacks a key, whose maze changes, with text, objects or NaN, of two lengths, cut short",
    "`ValueError`, one sentence with the file and the key; nothing is unpickled",
)
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda arrays: arrays.pop("reward"), "1.npz: .*no 'reward' among .*which every file of Memory Maze has"),
        (lambda arrays: arrays.pop("action"), "1.npz: .*no 'action' among"),
        (lambda arrays: arrays.pop("image"), "1.npz: .*no 'image' among"),
        (change("maze_layout", 7), "1.npz: .*maze_layout changes at t = 7, expected the same at every step"),
        (change("targets_pos", 3), "1.npz: .*targets_pos changes at t = 3"),
        (put("maze_layout", np.full((10, 5, 5), "#")), "1.npz: .*maze_layout: expected numbers for each of 10 steps"),
        (put("target_color", np.array([{"red": 1}] * 10)), "1.npz: .*target_color: expected numbers .*object"),
        (
            put("agent_pos", np.zeros((9, 2))),
            r"1.npz: .*agent_pos: expected numbers for each of 10 steps, got \(9, 2\)",
        ),
        (put("agent_pos", np.full((10, 2), np.nan)), "1.npz: agent_pos at t = 0 is nan"),
        (put("image", np.zeros((10, 8, 8, 3)) + 300), "1.npz: image: expected uint8 in 0..255 or floats in .0, 1."),
        (put("reset", np.arange(10) % 5 == 0), "1.npz: another episode begins inside it, is_first at t = 5"),
    ],
)
def test_a_broken_file_is_refused_by_name(folder: Path, tmp_path: Path, spoil: Any, words: str) -> None:
    for number in range(2):
        arrays = recorded(number, 10)
        if number:
            spoil(arrays)
        np.savez(folder / f"{number}.npz", **arrays)
    with pytest.raises(ValueError, match=words) as refused:
        import_folder(folder, tmp_path / "out", split=(1,), say=lambda note: None)
    assert "\n" not in str(refused.value)


def test_a_file_that_was_cut_is_refused_by_name(folder: Path) -> None:
    np.savez(folder / "0.npz", **recorded(0, 10))
    whole = (folder / "0.npz").read_bytes()
    (folder / "0.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"0\.npz: cannot be read .*repair it, or take it out of the folder"):
        FolderEpisodes(folder)


def test_files_of_other_programs_are_left_as_they_are(folder: Path) -> None:
    arrays = recorded(0, 10)
    moving = {key: arrays[key] for key in ("image", "action", "targets_pos")}
    moving["targets_pos"] = np.cumsum(arrays["targets_pos"], axis=0)
    np.savez(folder / "0.npz", **moving)
    assert FolderEpisodes(folder).episode(0).steps["targets_pos"].shape == (10, OBJECTS, 2)


def test_what_is_written_has_a_time_axis_on_every_key_and_comes_back_the_same(folder: Path, tmp_path: Path) -> None:
    for number, length in enumerate((11, 10)):
        arrays = recorded(number, length) | {"context_length": np.full(length, 6)}
        np.savez(folder / f"{number}.npz", **arrays)
    store = import_folder(folder, tmp_path / "out", split=(1,), say=lambda note: None)["train"]
    done: list[tuple[int, int]] = []
    for _ in range(2):  # the second time there is nothing left to do
        assert export_memory_maze(store, tmp_path / "npz", progress=lambda *now: done.append(now)) == 2
    assert done == [(1, 2), (2, 2)] * 2
    with pytest.raises(ValueError, match=r"holds \.npz files of other episodes"):
        export_memory_maze(FolderEpisodes(folder), tmp_path / "npz")
    files = sorted((tmp_path / "npz").glob("*.npz"))
    assert [file.name for file in files] == ["000000.npz", "000001.npz"]
    for number, file in enumerate(files):
        assert zipfile.ZipFile(file).testzip() is None
        with np.load(file, allow_pickle=False) as arrays:
            assert {len(arrays[key]) for key in arrays.files} == {11 - number}
            assert set(recorded(0, 2)) | {"context_length"} == set(arrays.files)
    again = FolderEpisodes(tmp_path / "npz")
    for number in range(2):
        one, other = store.episode(number), again.episode(number)
        assert (one.steps.keys(), one.constants.keys()) == (other.steps.keys(), other.constants.keys())
        for key, value in one.items():
            assert (value.dtype, value.tolist()) == (other[key].dtype, other[key].tolist()), key


def test_episodes_without_a_maze_are_not_written(tmp_path: Path, list_source: Any) -> None:
    with pytest.raises(ValueError, match=r"episode 0: no 'maze_layout' among .*expected that of a maze"):
        export_memory_maze(list_source([3]), tmp_path / "npz")
    assert not (tmp_path / "npz").exists()


@pytest.mark.reported(
    "data",
    "",
    "a constant that is repeated for every step, `maze_layout` (T, h, w) in `constants`",
    "`ValueError` with both ways out: it would be (B, T, T, h, w) in a batch",
)
def test_a_constant_that_is_repeated_for_every_step_is_refused(list_source: Any) -> None:
    source = list_source([4])
    episode = source.episodes[0]
    layout = np.arange(9).reshape(3, 3)
    source.episodes[0] = Episode(episode.steps, {"a_strangers_map": np.tile(layout, (4, 1, 1))})
    with pytest.raises(ValueError, match=r"a_strangers_map: 4 equal parts \(3, 3\) in constants, one for each step"):
        next(WholeEpisodes(source, 1, keys=["a_strangers_map"]))
    source.episodes[0] = Episode({**episode.steps, "a_strangers_map": np.tile(layout, (4, 1, 1))})
    assert next(WholeEpisodes(source, 1, keys=["a_strangers_map"])).extras["a_strangers_map"].shape == (1, 4, 3, 3)
