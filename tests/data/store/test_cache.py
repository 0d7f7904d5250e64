import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch

from wmkit.data import (
    CachedEpisodes,
    CorruptCache,
    EpisodeStore,
    EpisodeWriter,
    GeneratedEpisodes,
    RandomWindows,
    WholeEpisodes,
    build_cache,
    open_source,
    write_archive,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, list_source):
    path = tmp_path_factory.mktemp("pristine") / "archive"
    write_archive(list_source([5, 3, 70]), path, origin={"split": "valid"})
    return path


@pytest.fixture
def store(pristine, tmp_path):
    return EpisodeStore(shutil.copytree(pristine, tmp_path / "archive"))


def test_a_cache_holds_what_its_archive_holds(store, tmp_path):
    cache = build_cache(store, tmp_path / "a cache", workers=1)
    assert (cache.num_episodes, cache.image_shape, cache.action_dim) == (3, (3, 4, 4), 2)
    for i in range(3):
        expected, got = store.episode(i), cache.episode(i)
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            assert got[key].dtype == value.dtype
            np.testing.assert_array_equal(got[key], value)
        assert isinstance(cache.episode(i)["image"], np.memmap)
    cache.verify()


def test_generated_stored_and_cached_episodes_make_the_same_batches(tmp_path):
    generated = GeneratedEpisodes("toy", seed=0, num_episodes=3)
    store = write_archive(generated, tmp_path / "archive")
    sources = [generated, store, build_cache(store, tmp_path / "cache")]
    batches = [next(RandomWindows(s, 2, 9, workers=w)) for s, w in zip(sources, (0, 2, 0), strict=True)]
    for batch in batches[1:]:
        assert torch.equal(batch.image, batches[0].image)
        assert torch.equal(batch.action, batches[0].action)


@pytest.mark.parametrize("key", ["image", "agent_pos", "context_length"])
def test_a_truncated_cache_is_refused_at_open_and_before_each_episode(store, tmp_path, key):
    cache = build_cache(store, tmp_path / "cache")
    file = tmp_path / "cache" / f"{key}.npy"
    os.truncate(file, file.stat().st_size - 1)
    for use in (lambda: CachedEpisodes(tmp_path / "cache"), lambda: cache.episode(0), cache.verify):
        with pytest.raises(CorruptCache, match=rf"{key}.npy: expected \d+ bytes, found \d+.*build the cache again"):
            use()


@pytest.mark.parametrize("key", ["image", "context_length"])
def test_an_altered_cache_is_refused_when_the_episode_is_used(store, tmp_path, key):
    build_cache(store, tmp_path / "cache")
    file = tmp_path / "cache" / f"{key}.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # in the last episode
    file.write_bytes(data)
    cache = CachedEpisodes(tmp_path / "cache")
    cache.episode(0)
    for use in (lambda: cache.episode(2), cache.verify):
        with pytest.raises(CorruptCache, match=rf"{key}.npy: episode 2 has been altered"):
            use()


@pytest.mark.parametrize(
    "manifest",
    ["", "{}", '{"format": 2, "origin": {}, "lengths": [3], "files": {}}', '{"format": 1, "lengths": 3}', "[]"],
)
def test_a_bad_manifest_is_refused(store, tmp_path, manifest):
    build_cache(store, tmp_path / "cache")
    (tmp_path / "cache" / "manifest.json").write_text(manifest)
    with pytest.raises(CorruptCache, match=r"manifest.json: unreadable"):
        CachedEpisodes(tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["files"].update({"../x": m["files"]["image"]}), "unreadable"),
        (lambda m: m["files"].pop("reward"), "unreadable"),
        (lambda m: m["lengths"].append(1), "unreadable"),
        (lambda m: m.update(lengths=[5, 3, 71]), "expected 79 rows"),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(store, tmp_path, change, message):
    build_cache(store, tmp_path / "cache")
    file = tmp_path / "cache" / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    with pytest.raises(CorruptCache, match=message):
        CachedEpisodes(tmp_path / "cache")


def test_a_pickle_in_disguise_is_not_loaded(store, tmp_path):
    build_cache(store, tmp_path / "cache")
    file = tmp_path / "cache" / "reward.npy"
    size = file.stat().st_size
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    file.write_bytes(file.read_bytes().ljust(size, b"\0")[:size])
    with pytest.raises(CorruptCache, match="unreadable"):
        CachedEpisodes(tmp_path / "cache")


def test_a_cache_appears_whole_or_not_at_all(store, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", full)
        with pytest.raises(OSError, match="could not build the cache") as caught:
            build_cache(store, tmp_path / "cache")
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]
    (tmp_path / "cache.new").mkdir()
    (tmp_path / "cache.new" / "half.npy").write_bytes(b"of a killed build")
    assert len(build_cache(store, tmp_path / "cache")) == 3
    with pytest.raises(ValueError, match="something here already"):
        build_cache(store, tmp_path / "cache")


def test_a_missing_cache_and_an_empty_archive_are_refused(list_source, tmp_path):
    with pytest.raises(ValueError, match="no cache here"):
        CachedEpisodes(tmp_path)
    empty = write_archive(list_source([3]), tmp_path / "archive", 0)
    with pytest.raises(ValueError, match="no episodes"):
        build_cache(empty, tmp_path / "cache")


def test_an_episode_beyond_the_end_is_refused(store, tmp_path):
    with pytest.raises(IndexError, match="0 to 2, got 3"):
        build_cache(store, tmp_path / "cache").episode(3)


def test_one_name_opens_a_world_an_archive_or_a_cache(store, tmp_path):
    build_cache(store, tmp_path / "cache")
    assert isinstance(open_source("toy", seed=3, num_episodes=2), GeneratedEpisodes)
    assert isinstance(open_source(tmp_path / "archive", split="valid"), EpisodeStore)
    assert isinstance(open_source(str(tmp_path / "cache"), split="valid"), CachedEpisodes)


def test_an_archive_without_episodes_is_refused(tmp_path):
    EpisodeWriter(tmp_path / "archive", {"world": "toy"}).close()
    with pytest.raises(ValueError, match="holds no episodes yet"):
        open_source(tmp_path / "archive")


@pytest.mark.parametrize("what", ["archive", "cache"])
def test_a_stored_split_is_not_used_as_another(store, tmp_path, what):
    build_cache(store, tmp_path / "cache")
    with pytest.raises(ValueError, match="holds split 'valid', expected 'train'"):
        open_source(tmp_path / what)


@pytest.mark.reported(
    "data",
    "zarr-developers/zarr-python#1382, #486",
    "archives and caches on a mount that can only be read",
    "batches are read; no file is written, made or locked",
)
def test_reading_writes_nothing(store, tmp_path):
    cache = build_cache(store, tmp_path / "cache")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for folder in (store.path, cache.path):
        with WholeEpisodes(open_source(folder, split="valid"), 2, workers=1) as sampler:
            next(sampler)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
