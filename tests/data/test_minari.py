"""A data set of Minari holds the episodes to the bit."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmkit.data import Episode, FolderEpisodes, export_minari, import_folder
from wmkit.data.minari import _flat

try:
    import h5py  # noqa: F401  which Minari's files need
    import minari
except ImportError:
    minari = None
with_minari = pytest.mark.skipif(minari is None, reason="Minari is optional: pip install 'minari[hdf5]'")


def one_hot(source: Any) -> Any:
    for number, episode in enumerate(source.episodes):
        episode.steps["action"] = np.eye(2, dtype=np.float32)[(np.arange(episode.length) + number) % 2]
        episode.steps["action"][0] = 0
        episode.steps["image"][:] = np.random.default_rng(number).integers(0, 256, episode["image"].shape)
    return source


@with_minari
def test_an_exported_episode_is_the_same_to_the_bit(
    list_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = one_hot(list_source([5, 3]))
    assert export_minari(source, tmp_path / "ours-v0") == 2
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = minari.load_dataset("ours-v0")
    assert (data.total_episodes, data.total_steps) == (2, 4 + 2)
    assert str(data.action_space) == "Discrete(2)"
    for found, episode in zip(data.iterate_episodes(), source.episodes, strict=True):
        assert found.observations.dtype == np.uint8
        assert (found.observations == episode["image"]).all()
        assert (found.actions == episode["action"][1:].argmax(axis=1)).all()
        assert (found.rewards == episode["reward"][1:]).all()
        assert (found.terminations == episode["is_terminal"][1:]).all()
        assert not found.truncations.any()
        assert (found.infos["agent_pos"] == episode["agent_pos"]).all()


@with_minari
def test_actions_that_are_not_one_hot_stay_vectors_and_an_end_without_a_flag_is_a_truncation(
    list_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = list_source([4])
    source.episodes[0].steps["is_terminal"][:] = False
    export_minari(source, tmp_path / "vectors-v0")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    found = minari.load_dataset("vectors-v0")[0]
    assert (found.actions == source.episodes[0]["action"][1:]).all()
    assert found.truncations.tolist() == [False, False, True]


@with_minari
def test_what_minari_cannot_hold_is_refused(list_source: Any, tmp_path: Path) -> None:
    source = one_hot(list_source([3, 3]))
    source.episodes[1].steps["action"] = np.full((3, 2), 0.5, np.float32)
    with pytest.raises(ValueError, match="episode 1: its actions are not one-hot, but those of episode 0 are"):
        export_minari(source, tmp_path / "mixed-v0")
    with pytest.raises(ValueError, match="episode 0: one observation, expected two or more"):
        export_minari(list_source([1]), tmp_path / "short-v0")
    with pytest.raises(ValueError, match="already exists"):
        export_minari(list_source([3]), tmp_path / "mixed-v0")
    still = list_source([3])
    still.action_dim = 0
    with pytest.raises(ValueError, match="no actions, which Minari needs"):
        export_minari(still, tmp_path / "still-v0")
    assert isinstance(still.episodes[0], Episode)


@with_minari
@pytest.mark.reported(
    "data",
    "",
    "a data set of Minari, `wmkit import DATASET --out ARCHIVE`",
    "the episodes that were exported come back to the bit; one that is damaged, or unpacks to gigabytes, is refused",
)
def test_an_exported_data_set_comes_back_to_the_bit(
    list_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = one_hot(list_source([5, 3, 4, 6]))
    source.image_shape = (3, 8, 8)  # smaller ones would be made larger
    for episode in source.episodes:
        episode.steps["image"] = episode["image"].repeat(2, axis=1).repeat(2, axis=2)
    export_minari(source, tmp_path / "ours-v0")
    back = FolderEpisodes(tmp_path / "ours-v0")
    assert (back.num_episodes, back.action_dim) == (4, 2)
    for number, episode in enumerate(source.episodes):
        found = back.episode(number)
        for key in ("image", "action", "is_first", "is_terminal", "agent_pos"):
            np.testing.assert_array_equal(found[key], episode[key], err_msg=key)
        np.testing.assert_array_equal(found["reward"][1:], episode["reward"][1:])
    stores = import_folder(tmp_path / "ours-v0", tmp_path / "out", say=lambda note: None)
    assert {part: len(store) for part, store in stores.items()} == {"train": 1, "valid": 1, "test": 2}
    with pytest.raises(ValueError, match="actions: 'before', but in data sets of this form they are 'after'"):
        FolderEpisodes(tmp_path / "ours-v0", actions="before")
    with monkeypatch.context() as changed:
        changed.setattr("wmkit.data.readers.LARGEST", 900)  # bytes; its images alone are 960
        with pytest.raises(ValueError, match=r"episode 0: its arrays take .* unpacked"):
            FolderEpisodes(tmp_path / "ours-v0")
    (tmp_path / "ours-v0" / "data" / "main_data.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"episode 0: cannot be read .*get the data set anew"):
        import_folder(tmp_path / "ours-v0", tmp_path / "again")
    (tmp_path / "ours-v0" / "data" / "metadata.json").write_text("{}")
    with pytest.raises(ValueError, match="ours-v0: Minari cannot open it"):
        import_folder(tmp_path / "ours-v0", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_observations_of_several_kinds_are_told_apart() -> None:
    nested = {"camera": {"rgb": np.zeros((3, 8, 8, 3), np.uint8)}, "joints": (np.zeros(3), np.ones((3, 2)))}
    found = {key: value.shape for key, value in _flat("", nested)}
    assert found == {"camera_rgb": (3, 8, 8, 3), "joints_0": (3,), "joints_1": (3, 2)}


@pytest.mark.parametrize("use", [export_minari, lambda source, out: FolderEpisodes(out)])
def test_without_minari_what_needs_it_says_so(
    use: Any, list_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "main_data.hdf5").touch()
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ValueError, match="Minari is needed for this: pip install"):
        use(list_source([3]), tmp_path)
