"""Writing archives, which grow episode by episode, and caches, which are built at once.

An archive gets its data first, then the index by an atomic rename; what was committed is never touched again. A cache
is built beside its place and renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import numpy as np

from wmkit.data.episode import Array, Episode, check_episode
from wmkit.data.loader import read_in_order
from wmkit.data.sources import EpisodeSource, GeneratedEpisodes
from wmkit.data.store import archive, cache
from wmkit.data.store.archive import Column, EpisodeStore, Index, chunk_files, padded, read_index, span
from wmkit.data.store.cache import CachedEpisodes, File, Manifest, checksum
from wmkit.data.store.tiles import without_pictures
from wmkit.files import file_name, hold_lock, sync, to_json, user_folder, write_text

FRAMES_PER_CHUNK = 64
LONGEST_BLOCK = 4096
"""Steps at most in one file of a small key."""


class EpisodeWriter:
    """Appends episodes to the archive at `path`, a new one or one that is there already.

    A crash at any moment leaves the committed episodes readable; the next writer overwrites the unfinished rest.

    Raises `ValueError` when the folder holds something else, when the archive has another `origin`, when another
    process is writing to it, and for an episode whose keys, dtypes or shapes differ from the first one's.
    """

    def __init__(self, path: str | Path, origin: dict[str, Any] | None = None) -> None:
        self.path = user_folder(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path}: it is a file, expected an archive or an empty folder")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.path)
        try:
            self._index = _open_or_create(self.path, origin or {})
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._index["lengths"])

    def append(self, episode: Episode) -> None:
        """Store one more episode and commit it.

        Raises `OSError` naming the archive when the disk is full; what was committed stays.
        """
        number = len(self)
        check_episode(episode, f"Episode {number} for {self.path}")
        episode = without_pictures(episode, f"Episode {number} for {self.path}")
        try:
            index = self._grown(episode)
            sync([file for key, value in episode.items() for file in self._write(index, key, value)])
            self._commit(index)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.path}: could not write episode {number} ({error.strerror}). Episodes before it are intact; "
                "make room and run the same command again to go on from there",
            ) from error

    def close(self) -> None:
        """Let other processes write."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _grown(self, episode: Episode) -> Index:
        """The index with `episode` in it; creates the arrays before the first one."""
        index = self._index
        if not len(self):
            schema = {
                key: Column(
                    per_step=key in episode.steps,
                    dtype=value.dtype.str,
                    shape=list(value.shape[1:] if key in episode.steps else value.shape),
                )
                for key, value in episode.items()
            }
            index = {**index, "schema": schema, "block": min(LONGEST_BLOCK, padded(episode.length, FRAMES_PER_CHUNK))}
            _create_arrays(self.path, index)
        _check_schema(index, episode, f"{self.path}: episode {len(self)}")
        place = sum(index["offsets"][-1:]) + padded(sum(index["lengths"][-1:]), index["block"])
        return {**index, "offsets": [*index["offsets"], place], "lengths": [*index["lengths"], episode.length]}

    def _write(self, index: Index, key: str, value: Array) -> list[Path]:
        """Write one array of the newest episode, whole files only; returns what must reach the disk."""
        import zarr

        folder = self.path / key
        metadata = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
        rows = value if index["schema"][key]["per_step"] else value[None]
        start, stop = span(index, key, len(self))
        end = padded(stop, metadata["chunk_grid"]["configuration"]["chunk_shape"][0])
        write_text(folder / "zarr.json", to_json({**metadata, "shape": [end, *rows.shape[1:]]}), durable=True)
        with zarr.config.set({"array.write_empty_chunks": True}):  # a missing file always means damage
            array = zarr.open_array(folder, mode="r+")
        array[start:end] = np.concatenate([rows, np.zeros((end - stop, *rows.shape[1:]), rows.dtype)])
        return [folder, folder / "zarr.json", *chunk_files(folder, array.chunks, start, stop)]

    def _commit(self, index: Index) -> None:
        _write_index(self.path, index)
        self._index = index


def write_archive(
    source: EpisodeSource,
    path: str | Path,
    episodes: int | None = None,
    *,
    origin: dict[str, Any] | None = None,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EpisodeStore:
    """Write the first `episodes` of `source` (default: all) to the archive at `path`; goes on where one ended.

    `origin` says where the episodes came from; generated ones say it themselves. What is there is compared with the
    episodes of `source`, unless these are generated, or `origin` has their digest as `of`. `progress(done, total)` is
    called after each episode.

    Raises `ValueError` for more episodes than there are, and where the archive holds other ones, or more.
    """
    total = source.num_episodes if episodes is None else episodes
    if total is None or total > (source.num_episodes or total):
        raise ValueError(f"episodes: the source has {source.num_episodes or 'no end of'} episodes, got {episodes}")
    own = source.origin if isinstance(source, GeneratedEpisodes) else {}
    with EpisodeWriter(path, origin or own) as writer:
        if len(writer) > total:
            raise ValueError(
                f"{writer.path}: holds {len(writer)} episodes, expected {total} at most; choose another folder"
            )
        if len(writer) and not (own or "of" in (origin or {})):  # which tell other episodes apart
            held = EpisodeStore(path)
            for index in range(len(writer)):
                there, given = held.episode(index), source.episode(index)
                if set(there) != set(given) or not all(np.array_equal(there[key], given[key]) for key in there):
                    raise ValueError(
                        f"{writer.path}: episode {index} there is not that of the source; choose another folder"
                    )
        for episode in read_in_order(source, range(len(writer), total), workers):
            writer.append(episode)
            progress(len(writer), total)
    return EpisodeStore(path)


def _open_or_create(path: Path, origin: dict[str, Any]) -> Index:
    strangers = sorted(item.name for item in path.iterdir() if not item.name.startswith(".zarr.json."))
    if not (path / "zarr.json").exists():
        if strangers:
            raise ValueError(f"{path}: expected an archive or an empty folder, found {strangers[:5]}")
        versions = {name: version(name) for name in ("wmkit", "zarr", "numpy")}
        new = Index(format=archive.FORMAT, block=1, schema={}, offsets=[], lengths=[], origin=origin, versions=versions)
        _write_index(path, new)
    index = read_index(path)
    if index["origin"] != origin:
        raise ValueError(f"{path}: holds episodes of {index['origin']}, got {origin}; choose another folder")
    return index


def _lock(path: Path) -> filelock.BaseFileLock:
    """An exclusive lock, in a file beside the folder; the system frees it when its holder ends, however that comes."""
    place = path.resolve()
    try:
        return hold_lock(place.with_name(f".{file_name(place.name)}.lock"))
    except filelock.Timeout as error:
        raise ValueError(
            f"{path}: another process is writing to this archive. Wait for it"
            + (f", or delete {error.lock_file} if it was killed" if error.lock_file.endswith(".held") else "")
        ) from None


def _write_index(path: Path, index: Index) -> None:
    group = {"zarr_format": 3, "node_type": "group", "attributes": {archive.ATTRIBUTE: index}}
    write_text(path / "zarr.json", to_json(group), durable=True)
    sync([path])


def _create_arrays(path: Path, index: Index) -> None:
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    for key, column in index["schema"].items():
        if not key.isidentifier():
            raise ValueError(f"{path}: keys must be identifiers, got {key!r}")
        steps = index["block"] if column["per_step"] else 1
        zarr.create_array(
            path / key,
            shape=(0, *column["shape"]),
            dtype=column["dtype"],
            chunks=(FRAMES_PER_CHUNK if key == "image" else steps, *column["shape"]),
            compressors=[ZstdCodec(level=3), Crc32cCodec()],
            overwrite=True,
        )


def _check_schema(index: Index, episode: Episode, where: str) -> None:
    expected = {key: "steps" if column["per_step"] else "constants" for key, column in index["schema"].items()}
    got = {key: "steps" if key in episode.steps else "constants" for key in episode}
    if expected != got:
        raise ValueError(f"{where}: expected keys {dict(sorted(expected.items()))}, got {dict(sorted(got.items()))}")
    for key, column in index["schema"].items():
        shape = (episode.length,) * column["per_step"] + tuple(column["shape"])
        if (value := episode[key]).shape != shape or value.dtype.str != column["dtype"]:
            raise ValueError(f"{where}: {key}: expected {shape} {column['dtype']}, got {value.shape} {value.dtype.str}")


def build_cache(store: EpisodeStore, path: str | Path, *, workers: int = 0) -> CachedEpisodes:
    """Make the cache of an archive in the new folder `path`, which appears only when it is complete.

    Raises `ValueError` when there is something at `path`, and `OSError` with nothing left behind when the disk is full.
    """
    path = user_folder(path)
    if not len(store):
        raise ValueError(f"{store.path}: holds no episodes to make a cache of")
    if path.exists():
        raise ValueError(f"{path}: there is something here already; delete it to build the cache again")
    unfinished = path.resolve().with_name(f"{file_name(path.resolve().name)}.new")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a build that was killed
    unfinished.mkdir(parents=True)
    try:
        _fill(unfinished, store, workers)
        os.replace(unfinished, path)
        sync([path.parent])
    except OSError as error:
        raise OSError(error.errno, f"{path}: could not build the cache ({error.strerror}); nothing is left") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return CachedEpisodes(path)


def _fill(folder: Path, store: EpisodeStore, workers: int) -> None:
    columns: dict[str, _NpyFile] = {}
    with contextlib.ExitStack() as stack:
        for episode in read_in_order(store, range(len(store)), workers):
            for key, value in without_pictures(episode, str(store.path)).items():
                if key not in columns:
                    columns[key] = stack.enter_context(_NpyFile(folder, key, store))
                columns[key].append(value)
    lengths = [store.episode_length(i) for i in range(len(store))]
    files = {key: column.entry() for key, column in columns.items()}
    manifest = Manifest(format=cache.FORMAT, origin=store.origin, lengths=lengths, files=files)
    write_text(folder / cache.MANIFEST, to_json(manifest), durable=True)


class _NpyFile:
    """The .npy file of one key, written episode by episode."""

    def __init__(self, folder: Path, key: str, store: EpisodeStore) -> None:
        self._path = folder / f"{key}.npy"
        self._per_step = store.index["schema"][key]["per_step"]
        self._rows = sum(store.index["lengths"]) if self._per_step else len(store)
        self._checksums: list[int] = []
        self._file = self._path.open("wb")

    def append(self, value: Array) -> None:
        if not self._checksums:
            shape = (self._rows, *(value.shape[1:] if self._per_step else value.shape))
            header = {"descr": np.lib.format.dtype_to_descr(value.dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
        self._checksums.append(checksum(value))
        # plain writes: a full disk is an OSError here, a killed process when written through a mapping
        self._file.write(np.ascontiguousarray(value).data)

    def entry(self) -> File:
        return File(per_step=self._per_step, bytes=self._path.stat().st_size, checksums=self._checksums)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
