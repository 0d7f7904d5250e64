"""Folders of recordings become archives: .npz files, videos, GIFs, pictures; and what is wrong with a file is said."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wmkit.data import EpisodeStore, FolderEpisodes, import_folder
from wmkit.data.folders import split_episodes

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes an .npz file of moving noise, with what the test changes."""
    folder = tmp_path / "recordings"
    folder.mkdir()

    def save(name: str, length: int = 6, side: int = 8, **changed: Any) -> Path:
        rng = np.random.default_rng(length)
        arrays = {
            "image": rng.integers(0, 256, (length, side, side, 3), dtype=np.uint8),
            "action": np.zeros((length, 2)),
        }
        np.savez(folder / name, **{key: value for key, value in {**arrays, **changed}.items() if value is not None})
        return folder

    return save


@pytest.fixture
def folder(save: Save) -> Path:
    """Ten recordings of different lengths."""
    for number in range(10):
        folder = save(f"{number}.npz", length=5 + number)
    return folder


@pytest.mark.reported(
    "data",
    "",
    "a folder of .npz files, `wmkit import FOLDER --out ARCHIVE`, also when it was stopped in between",
    "archives train, valid and test; the same command goes on where it was stopped",
)
def test_a_folder_becomes_three_archives_and_a_stopped_import_goes_on(folder: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == ("writing train", 3):
            raise Stop

    with pytest.raises(Stop):
        import_folder(folder, tmp_path / "out", progress=stop)
    assert len(EpisodeStore(tmp_path / "out" / "train")) == 3
    written = []
    stores = import_folder(folder, tmp_path / "out", progress=lambda *now: written.append(now))
    assert ("writing train", 3, 7) not in written
    assert {split: len(store) for split, store in stores.items()} == {"train": 7, "valid": 1, "test": 2}
    lengths = [store.episode_length(index) for store in stores.values() for index in range(len(store))]
    assert sorted(lengths) == list(range(5, 15))
    with np.load(folder / f"{stores['valid'].episode_length(0) - 5}.npz") as arrays:
        assert (stores["valid"].episode(0)["image"] == arrays["image"]).all()


@pytest.mark.reported(
    "data",
    "",
    "an import into an archive of another folder of that name, of files written anew in place, or with another"
    " `--rename`, `--size`, `--action-dim` or `--actions`",
    "`ValueError` that says what differs; nothing is written. The same files elsewhere, or touched, go on",
)
def test_an_import_of_other_contents_or_settings_is_refused(folder: Path, save: Save, tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_folder(folder, out)
    for path in folder.iterdir():
        path.touch()
    assert len(import_folder(folder, out)["train"]) == 7
    for more, words in (
        ({"actions": "after"}, "actions is 'after', there it was 'before'"),
        ({"size": 16}, "size is 16, there it was None"),
        ({"rename": {"action": "move"}}, r"other contents; rename is \{'action': 'move'\}"),
    ):
        with pytest.raises(ValueError, match=rf"train: an archive that was made otherwise \({words}.*delete .*out"):
            import_folder(folder, out, say=lambda note: None, **more)
    save("3.npz", length=8, reward=np.ones(8))  # the same image and action
    with pytest.raises(ValueError, match=r"made otherwise \(other contents\)"):
        import_folder(folder, out, say=lambda note: None)
    (tmp_path / "half" / "valid").mkdir(parents=True)
    (tmp_path / "half" / "valid" / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"valid: expected an archive or nothing here. Nothing was written"):
        import_folder(folder, tmp_path / "half", say=lambda note: None)
    assert not (tmp_path / "half" / "train").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file, expected a folder for the archives"):
        import_folder(folder, tmp_path / "file", say=lambda note: None)


@pytest.mark.reported(
    "data",
    "",
    "an import again with other shares, `--split 1` and then `--split 0,1` of the same recordings",
    "`ValueError`: no episode comes twice, or into two splits",
)
@pytest.mark.parametrize("split", [(0.5, 0.2, 0.3), (0.9, 0.1), (0, 1), (1,)])
def test_other_shares_bring_no_episode_into_two_splits(folder: Path, tmp_path: Path, split: tuple[float, ...]) -> None:
    first = (0.8, 0.2) if split == (1,) else (1,)
    import_folder(folder, tmp_path / "out", split=first)
    written = sorted(tmp_path.rglob("out/**"))
    with pytest.raises(ValueError, match=r"made otherwise .* there it was|the same episodes under other shares"):
        import_folder(folder, tmp_path / "out", split=split)
    assert sorted(tmp_path.rglob("out/**")) == written


@pytest.mark.reported(
    "data",
    "",
    "an import of 5 recordings, of 3, or shares that are none",
    "2, 1, 2; or a `ValueError` with how many it takes",
)
def test_every_split_gets_what_it_takes() -> None:
    assert {split: len(found) for split, found in split_episodes(5, (0.8, 0.1, 0.1)).items()} == {
        "train": 2, "valid": 1, "test": 2,
    }  # fmt: skip
    parts = split_episodes(100, (0.7, 0.2, 0.1))
    assert [len(part) for part in parts.values()] == [70, 20, 10]
    assert sorted(number for part in parts.values() for number in part) == list(range(100))
    assert split_episodes(3, (1,)) == {"train": [0, 1, 2]}
    assert {split: len(found) for split, found in split_episodes(5, (0, 0.5, 0.5)).items()} == {"valid": 3, "test": 2}
    assert split_episodes(3, (0, 1)) == {"valid": [0, 1, 2]}
    assert split_episodes(3, (0, 0, 1)) == {"test": [0, 1, 2]}
    with pytest.raises(ValueError, match="3 episodes are too few for train, valid, test: expected 4 or more"):
        split_episodes(3, (0.8, 0.1, 0.1))
    for wrong in ((0.5,), (), (0.5, 0.6, -0.1), (0.25,) * 4):
        with pytest.raises(ValueError, match="expected up to three shares that make 1"):
            split_episodes(10, wrong)


@pytest.mark.reported(
    "data",
    "",
    "a folder named with brackets, spaces and accents; recordings 9 and 10 by value; other files beside them",
    "found, in the order of their numbers; what was passed over is said",
)
def test_odd_names_are_found_and_other_files_passed_over(save: Save, tmp_path: Path) -> None:
    for name in ("run 10.npz", "run 9.npz"):
        folder = save(name)
    (folder / "notes.txt").write_text("")
    odd = folder.rename(tmp_path / "läufe [9x9] *")
    source = FolderEpisodes(odd)
    assert source.reader.names == ["run 9.npz", "run 10.npz"]
    assert source.notes[0] == f"Passed over in {odd}: 1 .txt."


@pytest.mark.reported(
    "data",
    "",
    "a corrupt or cut .npz, Python objects that need pickle, no recordings, a folder that is not there",
    "`ValueError` naming the file and what to do; nothing is unpickled",
)
def test_files_that_cannot_be_read_are_named(save: Save, tmp_path: Path) -> None:
    folder = save("0.npz")
    whole = (folder / "0.npz").read_bytes()
    for broken in (b"no zip", whole[: len(whole) // 2], whole[:80] + b"x" * 40 + whole[120:]):
        (folder / "1.npz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"1\.npz: cannot be read .* repair it, or take it out of the folder"):
            FolderEpisodes(folder)
    objects = np.array([{"left": 1}] * 6, object)
    save("1.npz", action=objects)
    with pytest.raises(ValueError, match=r"1\.npz: action: expected an array of numbers, got object"):
        FolderEpisodes(folder)
    save("1.npz", info=objects)
    assert "'info' is left out" in FolderEpisodes(folder).notes[0]
    with pytest.raises(ValueError, match="there is no such folder"):
        FolderEpisodes(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no recordings here. Expected a \.npz, .* there is nothing"):
        FolderEpisodes(tmp_path / "empty")


@pytest.mark.reported(
    "data",
    "",
    "arrays of other names, `frames` and `actions`",
    "`ValueError` naming them and `--rename frames=image`, which helps",
)
def test_arrays_of_other_names_are_renamed(save: Save) -> None:
    folder = save("0.npz", **{"obs/pos": np.ones(6)})
    with pytest.raises(ValueError, match=r"0\.npz: 'obs/pos': expected a name .* --rename obs/pos=obs_pos"):
        FolderEpisodes(folder)
    assert "obs_pos" in FolderEpisodes(folder, rename={"obs/pos": "obs_pos"}).episode(0)
    with pytest.raises(IndexError, match="there are episodes 0 to 0, got 1"):
        FolderEpisodes(folder, rename={"obs/pos": "obs_pos"}).episode(1)
    folder = save("0.npz", image=None, frames=np.zeros((6, 8, 8, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"0\.npz: no 'image' among \['action', 'frames'\]; say .* --rename frames=image"
    ):
        FolderEpisodes(folder)
    assert FolderEpisodes(folder, rename={"frames": "image"}).image_shape == (3, 8, 8)
    with pytest.raises(ValueError, match=r"--rename: two of \['action', 'frames'\] would be called 'image'"):
        FolderEpisodes(folder, rename={"frames": "image", "action": "image"})
    with pytest.raises(ValueError, match=r"--rename: no 'film' among"):
        FolderEpisodes(folder, rename={"film": "image"})


@pytest.mark.reported("data", "", "recordings of mixed sizes in one folder", "brought to one size, said with the sizes")
def test_mixed_sizes_are_brought_to_one(save: Save) -> None:
    save("0.npz", side=16)
    source = FolderEpisodes(save("1.npz", side=24))
    assert {source.episode(index)["image"].shape for index in range(2)} == {(6, 16, 16, 3)}
    assert "24 x 24" in source.notes[0]


FRAMES = np.repeat(np.arange(0, 240, 40, dtype=np.uint8), 16 * 16 * 3).reshape(6, 16, 16, 3)


def test_gifs_and_folders_of_pictures_are_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(frame) for frame in FRAMES]
    (tmp_path / "gif").mkdir()
    pages[0].save(tmp_path / "gif" / "0.gif", save_all=True, append_images=pages[1:])
    episode = tmp_path / "pictures" / "first"
    episode.mkdir(parents=True)
    for number, page in enumerate(pages):
        page.save(episode / f"{number + 8}.png")  # 10 comes after 9
    for kind in ("gif", "pictures"):
        source = FolderEpisodes(tmp_path / kind)
        assert (source.action_dim, source.episode_length(0)) == (0, 6)
        assert (source.episode(0)["image"] == FRAMES).all()
    Image.new("RGB", (9, 9)).save(episode / "99.png")
    with pytest.raises(ValueError, match="its pictures are of different sizes"):
        FolderEpisodes(tmp_path / "pictures")


def write_video(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.reported(
    "data",
    "",
    "a folder of .mp4 or .avi files, with PyAV and without",
    "videos without actions; without PyAV a sentence that names the extra `video`; a broken file is named",
)
@pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="needs PyAV")
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_videos_are_read_with_pyav(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / f"0{suffix}")
    source = FolderEpisodes(tmp_path)
    assert (source.num_episodes, source.episode_length(0), source.image_shape) == (1, 6, (3, 16, 16))
    assert np.abs(source.episode(0)["image"].astype(int) - FRAMES).max() < 12  # lossy
    monkeypatch.setattr("wmkit.data.readers.LARGEST", 1000)
    with pytest.raises(ValueError, match=r"0\.\w+: its first 2 frames alone take .* as by --length 100"):
        FolderEpisodes(tmp_path)
    (tmp_path / f"0{suffix}").write_bytes(b"no video")
    with pytest.raises(ValueError, match=rf"0{suffix}: cannot be read"):
        FolderEpisodes(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"reading videos needs PyAV, the extra `video`: pip install av"):
        FolderEpisodes(tmp_path)
