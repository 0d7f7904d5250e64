import builtins
import errno
import fcntl
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wmkit.data import (
    CorruptArchive,
    Episode,
    EpisodeStore,
    EpisodeWriter,
    GeneratedEpisodes,
    build_cache,
    open_source,
    write_archive,
)
from wmkit.data.store import writers
from wmkit.data.store.archive import read_index

DTYPES = ["u1", "i4", "i8", "f2", "f4", "f8", "?"]


def same(a, b):
    assert (a.steps.keys(), a.constants.keys()) == (b.steps.keys(), b.constants.keys())
    for key, value in a.items():
        assert b[key].dtype == value.dtype, key
        np.testing.assert_array_equal(b[key], value)


@pytest.fixture
def source():
    return GeneratedEpisodes("toy", seed=7, num_episodes=4)


@pytest.fixture(autouse=True)
def _two_episodes_a_file(monkeypatch):
    """Files of 46 steps: two episodes of 23."""
    monkeypatch.setattr(writers, "LONGEST_BLOCK", 46)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    path = tmp_path_factory.mktemp("pristine") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "LONGEST_BLOCK", 46)
        write_archive(GeneratedEpisodes("toy", seed=7), path, 4)
    return path


@pytest.fixture
def archive(pristine, tmp_path):
    """A fresh copy of an archive of four episodes."""
    return Path(shutil.copytree(pristine, tmp_path / "a"))


@given(data=st.data(), lengths=st.lists(st.integers(1, 140), min_size=1, max_size=3), dtype=st.sampled_from(DTYPES))
def test_what_was_written_is_read(list_source, tmp_path_factory, data, lengths, dtype):
    path = tmp_path_factory.mktemp("a") / "name with space, ünïcode"
    source = list_source(lengths)
    elements = {"allow_nan": False, "allow_infinity": False} if "f" in dtype else {}
    shape = data.draw(st.sampled_from([(), (1,), (2, 3)]))
    for episode, length in zip(source.episodes, lengths, strict=True):
        episode.steps["measured"] = data.draw(hnp.arrays(dtype, (length, *shape), elements=elements, fill=st.just(0)))
        episode.constants["maze_layout"] = data.draw(hnp.arrays(dtype, (2, 2), elements=elements, fill=st.just(1)))
    store = write_archive(source, path)
    for i, episode in enumerate(source.episodes):
        same(episode, store.episode(i))
        assert store.episode_length(i) == lengths[i]
    assert (store.image_shape, store.action_dim, store.num_episodes) == ((3, 4, 4), 2, len(lengths))
    assert store.verify() == []


def test_an_archive_says_where_it_came_from(archive):
    assert EpisodeStore(archive).origin == {
        "world": {"name": "toy", "fault": "", "wide": 12},
        "seed": 7,
        "split": "train",
        "length": None,
    }
    attributes = dict(zarr.open_group(archive, mode="r").attrs)["wmkit_episodes"]
    assert attributes["lengths"] == [23] * 4
    assert attributes["offsets"] == [0, 23, 46, 69]
    assert attributes["schema"]["agent_pos"] == {"per_step": True, "dtype": "<f4", "shape": [2]}
    assert {"wmkit", "zarr"} <= attributes["versions"].keys()


def test_writing_goes_on_where_it_stopped(source, archive, tmp_path, tree):
    calls = []
    write_archive(source, tmp_path / "b", 2)
    write_archive(source, tmp_path / "b", 4, workers=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(3, 4), (4, 4)]
    assert tree(tmp_path / "b") == tree(archive)


def test_a_crash_between_data_and_index_loses_no_committed_episode(source, archive, tmp_path, tree, monkeypatch):
    path = tmp_path / "b"
    for committed in (0, 2):
        write_archive(source, path, committed)

        def stop(path, index):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(writers, "_write_index", stop)
            with pytest.raises(KeyboardInterrupt):
                write_archive(source, path, 4)
        store = EpisodeStore(path)
        assert len(store) == committed
        assert store.verify() == []
    write_archive(source, path, 4)
    assert tree(path) == tree(archive)


def test_a_killed_writer_leaves_whole_episodes(tmp_path):
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from wmkit.data.store import writers; writers.SECONDS = 0\n"
        "from wmkit.data import GeneratedEpisodes, write_archive\n"
        f"write_archive(GeneratedEpisodes('toy_dies', seed=0), {str(tmp_path / 'a')!r}, 10)"
    )
    # episode 5 of this world kills the process that asks for it
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    store = EpisodeStore(tmp_path / "a")
    assert (len(store), store.verify()) == (5, [])


@pytest.mark.reported(
    "machines", "", "the disk is full while an archive is written", "the episodes before stay; the same command goes on"
)
def test_a_full_disk_is_reported_and_costs_nothing(source, tmp_path, monkeypatch):
    write_archive(source, tmp_path / "a", 2)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", full)
        with pytest.raises(OSError, match=r"could not write episode 2 \(No space left.*are intact") as caught:
            write_archive(source, tmp_path / "a")
    assert caught.value.errno == errno.ENOSPC
    assert (len(EpisodeStore(tmp_path / "a")), EpisodeStore(tmp_path / "a").verify()) == (2, [])
    assert len(write_archive(source, tmp_path / "a")) == 4


def damage(file: Path, how: str):
    data = bytearray(file.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    file.write_bytes({"flipped": data, "cut": data[:-1], "half": data[: len(data) // 2], "empty": b""}.get(how))


@pytest.mark.parametrize("how", ["flipped", "cut", "half", "empty", "missing"])
@pytest.mark.parametrize("file", ["image/c/1/0/0/0", "action/c/1/0", "maze_layout/c/1/0/0", "context_length/c/1"])
def test_a_damaged_file_is_found_and_the_episodes_in_others_are_whole(source, archive, how, file):
    target = archive / file
    target.unlink() if how == "missing" else damage(target, how)
    store = EpisodeStore(archive)
    key = file.split("/")[0]
    found = store.verify()
    assert 1 <= len(found) <= 2  # each image of a file has a checksum of its own, of other keys the whole file has one
    for line in found:
        assert re.search(rf"episode [23], '{key}' is damaged.*write it again", line)
    with pytest.raises(CorruptArchive, match=re.escape(found[0])):
        store.episode(2 if "episode 2" in found[0] else 3)
    same(store.episode(1), source.episode(1))


def test_a_damaged_file_is_not_written_on_with_episodes_lost(source, tmp_path):
    write_archive(source, tmp_path / "a", 3)
    (tmp_path / "a" / "reward" / "c" / "1").unlink()
    with pytest.raises(CorruptArchive, match=r"'reward' before episode 3 is damaged \(reward/c/1 is missing\)"):
        write_archive(source, tmp_path / "a", 4)
    assert len(EpisodeStore(tmp_path / "a")) == 3


@pytest.mark.parametrize("how", ["half", "empty"])
@pytest.mark.parametrize("file", ["zarr.json", "image/zarr.json"])
def test_damaged_metadata_is_refused(archive, how, file):
    damage(archive / file, how)
    with pytest.raises(CorruptArchive, match="unreadable"):
        EpisodeStore(archive)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 3),
        ("offsets", [0, 23]),
        ("offsets", [0, 23, 0, 69]),
        ("offsets", [0, 23, 45, 69]),
        ("lengths", [23, 23, 0, 23]),
        ("schema", {"../x": {"per_step": True}}),
        ("schema", {"image": {"per_step": True}}),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(archive, field, value):
    file = archive / "zarr.json"
    group = json.loads(file.read_text())
    group["attributes"]["wmkit_episodes"][field] = value
    file.write_text(json.dumps(group))
    with pytest.raises(CorruptArchive, match="the index is unreadable"):
        EpisodeStore(archive)


@pytest.mark.reported(
    "data",
    "",
    "an archive of the first format, in which every small episode has files of its own",
    "is read, and gone on with",
)
def test_an_archive_of_the_first_format_is_read_and_gone_on_with(source, archive, tmp_path):
    old, episodes = tmp_path / "old", [source.episode(index) for index in range(3)]
    schema = read_index(archive)["schema"]
    for key, column in schema.items():
        size, length = (64, 23) if column["per_step"] else (1, 1)
        rows = np.zeros((3 * size, *column["shape"]), column["dtype"])
        for number, episode in enumerate(episodes):
            rows[number * size : number * size + length] = episode[key]
        with zarr.config.set({"array.write_empty_chunks": True}):
            zarr.create_array(old / key, data=rows, chunks=(size, *column["shape"]))
    index = {**read_index(archive), "format": 1, "block": 64, "offsets": [0, 64, 128], "lengths": [23] * 3}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"wmkit_episodes": index}}
    (old / "zarr.json").write_text(json.dumps(group))
    for number, episode in enumerate(episodes):
        same(EpisodeStore(old).episode(number), episode)
    store = write_archive(source, old, 4)
    assert store.verify() == []
    for number in range(4):
        same(store.episode(number), source.episode(number))
    assert (store.index["format"], store.index["offsets"]) == (2, [0, 64, 128, 151])


def test_small_episodes_share_files_and_long_ones_have_their_own(list_source, tmp_path, tree, monkeypatch):
    monkeypatch.undo()  # files of the usual size
    small = write_archive(list_source([40] * 5), tmp_path / "small")
    assert small.index["block"] == 4080
    assert len(tree(tmp_path / "small")) == 1 + 2 * 7  # a file and its metadata for each of seven keys
    long = write_archive(list_source([300, 300]), tmp_path / "long")
    assert (long.index["block"], long.index["offsets"]) == (320, [0, 320])
    assert len(tree(tmp_path / "long")) == 1 + 3 * 7


def test_what_comes_back_is_the_callers_own(source, archive):
    store = EpisodeStore(archive)
    store.episode(0)["reward"][:] = 7
    same(store.episode(0), source.episode(0))


def test_other_folders_are_neither_read_nor_written(source, tmp_path):
    with pytest.raises(ValueError, match="no archive here"):
        EpisodeStore(tmp_path)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"empty folder, found \['thesis.tex'\]"):
        write_archive(source, tmp_path)


def test_an_archive_of_other_episodes_is_not_appended_to(archive):
    with pytest.raises(ValueError, match=r"'seed': 7.*'seed': 8"):
        write_archive(GeneratedEpisodes("toy", seed=8), archive, 2)


@pytest.mark.reported(
    "data",
    "",
    "`write_archive` of a source of one's own into an archive that holds other episodes, or more than are asked for",
    "`ValueError`: it goes on only where what is there is the source's beginning",
)
def test_an_archive_goes_on_only_where_it_is_the_beginning_of_the_source(list_source, tmp_path):
    write_archive(list_source([5, 3]), tmp_path / "a")
    assert len(write_archive(list_source([5, 3, 4]), tmp_path / "a")) == 3
    with pytest.raises(ValueError, match="holds 3 episodes, expected 2 at most; choose another folder"):
        write_archive(list_source([5, 3]), tmp_path / "a")
    with pytest.raises(ValueError, match="episode 1 there is not that of the source; choose another folder"):
        write_archive(list_source([5, 4, 4, 6]), tmp_path / "a")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: it is a file, expected an archive or an empty folder"):
        write_archive(list_source([5]), tmp_path / "file")
    write_archive(list_source([5]), tmp_path / "b", origin={"made by": "my robot"})
    with pytest.raises(ValueError, match="episode 0 there is not that of the source"):
        write_archive(list_source([4]), tmp_path / "b", origin={"made by": "my robot"})


def test_two_writers_exclude_each_other(tmp_path):
    with EpisodeWriter(tmp_path / "a"):
        with pytest.raises(ValueError, match="another process is writing"):
            EpisodeWriter(tmp_path / "a")
    EpisodeWriter(tmp_path / "a").close()


def test_an_episode_of_another_schema_is_refused_and_changes_nothing(list_source, tmp_path, tree):
    first, other = list_source([3, 4]).episodes
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.append(first)
        before = tree(tmp_path / "a")
        for change, message in (
            ({"extra": np.zeros(4)}, "expected keys"),
            ({"context_length": np.zeros(4)}, "expected keys .*'context_length': 'constants'.* got .*'steps'"),
            ({"agent_pos": other["agent_pos"].astype("f8")}, r"agent_pos: expected \(4, 2\) <f4"),
            ({"action": np.zeros((4, 3), "f4")}, r"action: expected \(4, 2\)"),
            ({"reward": np.full(4, np.nan, "f4")}, r"reward at t = 0 is nan"),
        ):
            constants = {key: value for key, value in other.constants.items() if key not in change}
            with pytest.raises(ValueError, match=message):
                writer.append(Episode(other.steps | change, constants))
        assert tree(tmp_path / "a") == before
        writer.append(other)
    assert len(EpisodeStore(tmp_path / "a")) == 2


def test_a_key_that_cannot_name_a_folder_is_refused(list_source, tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer, pytest.raises(ValueError, match="identifiers"):
        writer.append(Episode(list_source([3]).episodes[0].steps | {"../x": np.zeros(3)}))
    assert read_index(tmp_path / "a")["lengths"] == []


def test_an_index_beyond_the_end_is_refused(archive):
    with pytest.raises(IndexError, match="episodes 0 to 3, got 4"):
        EpisodeStore(archive).episode(4)


def test_an_endless_source_needs_a_count(tmp_path):
    with pytest.raises(ValueError, match="no end of"):
        write_archive(GeneratedEpisodes("toy", seed=0), tmp_path / "a")


@pytest.mark.reported(
    "names",
    "ray-project/ray#15367, tensorflow/tensorflow#34290",
    "an archive and its cache in folders with brackets, `#`, `%20`, `::`, `~`, a newline, 250 letters",
    "are written, gone on with, read and cached",
)
@pytest.mark.parametrize("name", ["maze[9x9]*", "a#b%20c::d", "~x$y{z}", "-a", "a.zip", "ünï\n日本", "x" * 250])
def test_an_archive_of_any_name_is_written_read_and_cached(source, tmp_path, name):
    for episodes in (1, 2):
        store = write_archive(source, tmp_path / name, episodes)
    assert store.verify() == []
    build_cache(store, tmp_path / "cache" / name)
    for opened in (open_source(tmp_path / name), open_source(str(tmp_path / "cache" / name))):
        same(opened.episode(1), source.episode(1))
    assert name in {path.name for path in tmp_path.iterdir()}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [name]


@pytest.mark.reported(
    "machines",
    "spack/spack#12501, SModelS/smodels#37",
    "an archive on a mount without locks",
    "a warning names it; a second writer is refused",
)
def test_without_locks_two_writers_exclude_each_other(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="has no locks"), EpisodeWriter(tmp_path / "a"):
        with pytest.raises(ValueError, match=r"another process is writing.*or delete .*\.held if it was killed"):
            EpisodeWriter(tmp_path / "a")


@pytest.mark.reported(
    "machines",
    "zarr-developers/zarr-python#1382, #486",
    "a read-only archive and cache",
    "are read; nothing is written beside them",
)
def test_a_read_only_archive_is_read(archive, tmp_path, source, monkeypatch):
    build_cache(EpisodeStore(archive), tmp_path / "cache")

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    opened = io.open

    def read_only(file, mode="r", *arguments, **options):
        return opened(file, mode, *arguments, **options) if set(mode) <= set("rbt") else refuse()

    for module, name in ((os, "mkdir"), (os, "replace"), (os, "unlink"), (Path, "touch")):
        monkeypatch.setattr(module, name, refuse)
    for module in (io, builtins):
        monkeypatch.setattr(module, "open", read_only)
    for path in (archive, tmp_path / "cache"):
        same(open_source(path).episode(3), source.episode(3))


@pytest.mark.reported(
    "names",
    "hydra-ecosystem/hydra#1647",
    '`write_archive(source, "~/a")`, `build_cache(store, "~/c")`, `open_source("~/a")` in Python',
    "the home folder; no folder called `~` is made",
)
def test_the_library_knows_the_home_folder(source, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    build_cache(write_archive(source, "~/a", 1), "~/c")
    for path in ("~/a", "~/c"):
        same(open_source(path).episode(0), source.episode(0))
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"a", ".a.lock", "c"}
    assert not list((tmp_path / "here").iterdir())
