"""Recordings are cut into episodes as they are read; what is too large, too short or cut off is said."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.data.test_folders import write_video
from wmkit.data import FolderEpisodes, import_folder
from wmkit.data.folders import split_recordings
from wmkit.data.readers import Unfit, pieces

LARGEST = "wmkit.data.readers.LARGEST"


def recording(total: int, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    image = np.arange(total * 12, dtype=np.uint16).reshape(total, 2, 2, 3)
    return {"image": iter(image) if stream else image, **more}


@given(
    st.integers(3, 40),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(2, 12)),
    st.booleans(),
    st.booleans(),
)
def test_pieces_are_every_so_many_th_frame_in_order(
    total: int, stride: int, length: int | None, stream: bool, acted: bool
) -> None:
    """Of arrays and of streams alike, and what has a row for each step is cut along."""
    acted = acted and stride == 1
    more = {"action": np.arange(total)} if acted else {"place": np.arange(total), "map": np.ones((1, total + 1))}
    kept = np.arange(total)[::stride]
    left: list[int] = []
    cut = pieces(recording(total, stream=stream, **more), stride, length, "before", left.append)
    if length is not None and len(kept) < length:
        with pytest.raises(Unfit, match=f"{len(kept)} frames.*fewer than the length of {length}"):
            list(cut)
        return
    found = list(cut)
    whole = recording(total)["image"]
    used = np.concatenate([one["image"] for one in found])
    np.testing.assert_array_equal(used, whole[kept[: len(used)]])
    if length is not None:
        assert {len(one["image"]) for one in found} == {length}
        assert left == [len(kept) - len(used)]
        assert left[0] < length
    for one in found:
        key = "action" if acted else "place"
        np.testing.assert_array_equal(whole[one[key]], one["image"])
        assert acted or (one["map"] == 1).all()


def test_actions_that_are_one_shorter_are_cut_along() -> None:
    found = list(pieces(recording(6, action=np.arange(5)), 1, 3, "after", lambda left: None))
    assert [one["action"].tolist() for one in found] == [[0, 1, 2], [3, 4]]


@pytest.mark.reported(
    "data",
    "",
    "`wmkit import --length` of recordings whose actions or other arrays have a row less, or more, than images",
    "refused by name as without `--length`; with `--actions after` a row less is cut along",
)
@pytest.mark.parametrize(
    ("more", "actions", "words"),
    [
        ({"action": 10}, "before", r"action: expected 11 steps, .*\(10,\)\. If .*--actions after"),
        ({"action": 15}, "before", r"action: expected 11 steps, as image has, got \(15,\)$"),
        ({"action": 9}, "after", "action: expected 11 steps"),
        ({"action": 11, "reward": 10}, "before", "reward: expected 11 steps"),
        ({"action": 10, "place": 10}, "after", "place: one row less than image has"),
    ],
)
def test_arrays_that_do_not_fit_the_images_are_not_cut(
    tmp_path: Path, more: dict[str, int], actions: Any, words: str
) -> None:
    arrays = {key: np.zeros(rows) for key, rows in more.items()}
    np.savez(tmp_path / "0.npz", image=np.zeros((11, 8, 8, 3), np.uint8), **arrays)
    with pytest.raises(ValueError, match=rf"0\.npz: {words}"):
        FolderEpisodes(tmp_path, length=5, actions=actions)


@pytest.mark.parametrize("one_less", [True, False])
def test_an_end_stays_at_its_image_where_a_recording_is_cut(tmp_path: Path, one_less: bool) -> None:
    rows = 10 if one_less else 11
    action, last = np.arange(rows, dtype=float)[:, None], np.arange(rows) == rows - 1
    np.savez(tmp_path / "0.npz", image=np.zeros((11, 8, 8, 3), np.uint8), action=action, is_terminal=last)
    whole = FolderEpisodes(tmp_path, actions="after").episode(0)["is_terminal"]
    assert np.flatnonzero(whole).tolist() == [10]
    for length, expected in ((5, []), (11, [10])):
        source = FolderEpisodes(tmp_path, actions="after", length=length)
        found = np.concatenate([source.episode(index)["is_terminal"] for index in range(source.num_episodes)])
        assert np.flatnonzero(found).tolist() == expected
    assert FolderEpisodes(tmp_path, actions="after", length=5).episode(1)["action"][:, 0].tolist() == [0, 5, 6, 7, 8]


@pytest.mark.parametrize("image", [np.empty(0, object), np.zeros(11), np.zeros((11, 8))])
def test_what_is_no_sequence_of_pictures_is_not_cut(tmp_path: Path, image: np.ndarray) -> None:
    np.savez(tmp_path / "0.npz", image=image)
    with pytest.raises(ValueError, match=r"0\.npz: image: expected numbers \(T, H, W, C\) or \(T, H, W\), got"):
        FolderEpisodes(tmp_path, length=5)


def test_a_source_goes_to_another_process_while_it_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", image=np.arange(12 * 192, dtype=np.uint16).reshape(12, 8, 8, 3).astype(np.uint8))
    source = FolderEpisodes(tmp_path, length=4)
    first = source.episode(0)["image"]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.episode(0)["image"], first)
    np.testing.assert_array_equal(copy.episode(2)["image"], source.episode(2)["image"])


@pytest.mark.reported(
    "data",
    "",
    "pictures of 16 bits, of which Pillow would keep the darkest 255 levels; other formats under the name of a picture",
    "refused by name; no other program is run for them",
)
def test_pictures_of_other_kinds_than_their_names_say_are_refused(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    deep = Image.fromarray(np.linspace(0, 60000, 64).astype(np.uint16).reshape(8, 8))
    deep.save(tmp_path / "0" / "0.png")
    with pytest.raises(ValueError, match=r"0: a picture has more than 8 bits .*I;16"):
        FolderEpisodes(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "0" / "0.png", "EPS")
    with pytest.raises(ValueError, match=r"0: cannot be read .*cannot identify"):
        FolderEpisodes(tmp_path)
    (tmp_path / "0" / "0.png").unlink()
    Image.new("RGB", (8, 8)).save(tmp_path / "1.gif", "TIFF")
    with pytest.raises(ValueError, match=r"1\.gif: cannot be read .*cannot identify"):
        FolderEpisodes(tmp_path)


def test_a_stride_over_actions_is_refused() -> None:
    with pytest.raises(Unfit, match="what was done at them would be lost"):
        next(pieces(recording(6, action=np.arange(6)), 2, None, "before", lambda left: None))


def test_a_long_video_is_cut_without_being_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name)
    monkeypatch.setattr(LARGEST, 2 * 16 * 16 * 3)  # two frames of the six of each
    source = FolderEpisodes(tmp_path, length=2)
    assert source.num_episodes == 6
    assert source.notes[0] == "Recordings: 2, cut into 6 episodes of 2."
    in_order = [source.episode(index)["image"] for index in range(6)]
    for index in (4, 1, 5, 0, 3):  # in any other order too
        np.testing.assert_array_equal(source.episode(index)["image"], in_order[index])
    assert [round(float(image[0].mean()) / 40) for image in in_order] == [0, 2, 4, 0, 2, 4]
    assert FolderEpisodes(tmp_path, length=2, stride=3).num_episodes == 2
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(b"no video any more")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"a\.mp4: cannot be read"):
            source.episode(1)
    (tmp_path / "a.mp4").write_bytes(whole)
    np.testing.assert_array_equal(source.episode(1)["image"], in_order[1])


def test_a_recording_that_becomes_shorter_meanwhile_is_named(tmp_path: Path) -> None:
    for length in (9, 4):
        np.savez(tmp_path / "0.npz", image=np.zeros((length, 8, 8, 3), np.uint8))
        source = FolderEpisodes(tmp_path, length=3) if length == 9 else source
    with pytest.raises(ValueError, match=r"0\.npz: it has become shorter"):
        source.episode(2)


@pytest.mark.reported(
    "data",
    "",
    "a small file that unpacks to gigabytes: arrays, a GIF, pictures, a video of one frame after another",
    "refused by name before its frames fill the memory; nothing is written",
)
@pytest.mark.parametrize("kind", ["npz", "gif", "pictures", "video"])
def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    folder = tmp_path / "bombs"
    folder.mkdir()
    pages = [Image.new("RGB", (64, 64), (number, 0, 0)) for number in range(20)]
    if kind == "npz":
        np.savez_compressed(folder / "0.npz", image=np.zeros((20, 64, 64, 3), np.uint8))
    elif kind == "gif":
        pages[0].save(folder / "0.gif", save_all=True, append_images=pages[1:])
    elif kind == "video":
        write_video(folder / "0.mp4")
    else:
        (folder / "0").mkdir()
        for number, page in enumerate(pages):
            page.save(folder / "0" / f"{number}.png")
    monkeypatch.setattr(LARGEST, 3000)
    read: list[int] = []

    def counted(frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            read.append(1)
            yield frame

    monkeypatch.setattr("wmkit.data.readers.islice", lambda frames, *_: counted(iter(frames)))
    with pytest.raises(ValueError, match=r"bombs.0(\.\w+)?: its (first \d frames alone take|arrays take)"):
        import_folder(folder, tmp_path / "out", split=(1,))
    assert len(read) <= 4
    assert not (tmp_path / "out").exists()


@pytest.mark.reported(
    "data",
    "",
    "a broken, cut or too short video among whole ones",
    "refused by name before anything is written; one that is cut but can be read is said",
)
def test_nothing_is_written_where_one_recording_cannot_be(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(4):
        write_video(folder / f"{number}.avi")
    write_video(folder / "4.mp4")
    (folder / "4.mp4").write_bytes((folder / "4.mp4").read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"4\.mp4: cannot be read"):
        import_folder(folder, tmp_path / "out", say=lambda note: None)
    assert not (tmp_path / "out").exists()
    (folder / "4.mp4").unlink()
    whole = (folder / "3.avi").read_bytes()
    (folder / "3.avi").write_bytes(whole[: whole.rindex(b"00dc", 0, whole.index(b"idx1"))])  # without its last frame
    with pytest.raises(ValueError, match=r"3\.avi: it has 5 frames, fewer than the length of 6"):
        import_folder(folder, tmp_path / "out", length=6, say=lambda note: None)
    assert not (tmp_path / "out").exists()
    notes: list[str] = []
    import_folder(folder, tmp_path / "out", say=notes.append)
    assert notes[0] == "3.avi has 5 frames, its own table says 6: it may be cut off."


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5), (0, 0.5, 0.5), (1,), (0, 0, 1)]),
)
def test_episodes_of_a_recording_stay_in_one_split(counts: list[int], shares: tuple[float, ...]) -> None:
    of = [number for number, count in enumerate(counts) for _ in range(count)]
    notes: list[str] = []
    try:
        parts = split_recordings(of, shares, notes.append)
    except ValueError as error:
        if "too few" not in str(error):
            raise
        return
    assert sorted(index for indices in parts.values() for index in indices) == list(range(len(of)))
    assert all(parts.values())
    together = [{of[index] for index in indices} for indices in parts.values()]
    apart = sum(map(len, together)) == len(set(of))
    if notes:
        joined = [index for indices in parts.values() for index in indices]
        assert joined == sorted(joined)
    else:
        assert apart
    assert len(parts.get("test", [0, 0])) >= 2


def test_one_long_recording_is_split_in_time(tmp_path: Path) -> None:
    image = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "0.npz", image=image)
    notes: list[str] = []
    stores = import_folder(tmp_path, tmp_path / "out", length=4, say=notes.append)
    brightest = {part: store.episode(len(store) - 1)["image"].max() for part, store in stores.items()}
    assert brightest == {"train": 27, "valid": 31, "test": 39}
    assert any("what comes first is for training" in note for note in notes)


def test_an_import_cut_otherwise_is_another(tmp_path: Path) -> None:
    for number in range(4):
        np.savez(tmp_path / f"{number}.npz", image=np.full((12, 8, 8, 3), number, np.uint8))
    for _ in range(2):
        stores = import_folder(tmp_path, tmp_path / "out", length=4, say=lambda note: None)
    assert sum(map(len, stores.values())) == 12
    with pytest.raises(ValueError, match="length is 6, there it was 4"):
        import_folder(tmp_path, tmp_path / "out", length=6, say=lambda note: None)
    for wrong, words in (
        ({"length": 1}, "length: expected at least 2"),
        ({"stride": 0}, "stride: expected at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            import_folder(tmp_path, tmp_path / "other", say=lambda note: None, **wrong)
