"""Writing archives, which grow episode by episode, and caches, which are built at once.

An archive gets its data first, then the index. Every file is written beside its place, brought to the disk and renamed:
the last one, which holds committed episodes too where more small ones come after them, is the old one or the new. A
cache is built beside its place and renamed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
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
from wmkit.data.store.archive import (
    CHUNK_BYTES,
    Column,
    CorruptArchive,
    EpisodeStore,
    Index,
    files_of,
    padded,
    read_index,
    read_rows,
    span,
)
from wmkit.data.store.cache import CachedEpisodes, File, Manifest, checksum
from wmkit.data.store.tiles import without_pictures
from wmkit.files import file_name, hold_lock, sync, to_json, user_folder, write_text

FRAMES_PER_CHUNK, FEWEST_FRAMES = 64, 16
LONGEST_BLOCK = 4096
"""Steps in one file at most."""
LARGEST_BLOCK = 64 << 20
"""Bytes of a block of small episodes at most: so much is in memory until it is written."""
SMALL = 256
"""Steps of an episode that shares its files with others, at most; by the first episode of an archive."""
SECONDS = 5.0
"""Between commits of small episodes, at most: what is lost when the process is killed."""


class EpisodeWriter:
    """Appends episodes to the archive at `path`, a new one or one that is there already.

    An episode is committed when its files are full, after `SECONDS`, and at the end, an error's too. A crash at any
    moment leaves the committed episodes readable; the next writer goes on after them and makes the same files.

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
            self._lock.release()
            raise
        self._waiting: list[Episode] = []
        self._taken = _end(self._index) % self._index["block"]
        """Steps of the last file that committed episodes and those that wait take."""
        self._committed = time.monotonic()

    def __len__(self) -> int:
        return len(self._index["lengths"]) + len(self._waiting)

    def append(self, episode: Episode) -> None:
        """Store one more episode.

        Raises `OSError` naming the archive when the disk is full; what was committed stays.
        """
        where = f"Episode {len(self)} for {self.path}"
        check_episode(episode, where)
        episode = without_pictures(episode, where)
        if not len(self):
            self._index = _begun(self._index, episode, where)
        _check_schema(self._index, episode, f"{self.path}: episode {len(self)}")
        block = self._index["block"]
        if self._taken + episode.length > block:
            self._commit()
            self._taken = 0
        copies = (
            {key: np.array(value) for key, value in group.items()} for group in (episode.steps, episode.constants)
        )
        self._waiting.append(Episode(*copies))
        self._taken += episode.length
        if self._taken + episode.length > block or time.monotonic() - self._committed > SECONDS:
            self._commit()
        self._taken %= block

    def close(self) -> None:
        """Commit what is waiting, and let other processes write."""
        try:
            self._commit()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _commit(self) -> None:
        """Write the episodes that wait, which have one block or more of their own or follow others in theirs."""
        episodes, self._waiting = self._waiting, []
        if not episodes:
            return
        index, first = self._index, len(self)
        for episode in episodes:
            end, block = _end(index), index["block"]
            place = end if end % block + episode.length <= block else padded(end, block)
            index = {
                **index,
                "format": archive.FORMAT,
                "offsets": [*index["offsets"], place],
                "lengths": [*index["lengths"], episode.length],
            }
        try:
            if not first:
                _create_arrays(self.path, index, episodes[0].length)
            moves: dict[Path, Path] = {}
            for key in index["schema"]:
                moves |= self._written(index, key, [episode[key] for episode in episodes], first)
            sync(moves)
            for file, final in moves.items():
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, final)
            sync({final.parent for final in moves.values()})
            _write_index(self.path, index)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.path}: could not write episode {first} ({error.strerror}). Episodes before it are intact; "
                "make room and run the same command again to go on from there",
            ) from error
        finally:
            _tidy(self.path)
        self._index, self._committed = index, time.monotonic()

    def _written(self, index: Index, key: str, values: list[Array], first: int) -> dict[Path, Path]:
        """Write one array of the episodes from `first` on, whole files, beside their places; returns these by file."""
        import zarr

        folder, beside = self.path / key, self.path / f".{key}.new"
        array = zarr.open_array(folder, mode="r")
        rows = np.concatenate(values) if index["schema"][key]["per_step"] else np.stack(values)
        start, stop = span(index, key, first)[0], span(index, key, first + len(values) - 1)[1]
        size = (array.shards or array.chunks)[0]
        begin, end = start - start % size, padded(stop, size)
        held = rows[:0]
        if begin < start:
            try:
                held = read_rows(folder, array, begin, start)
            except Exception as error:  # zarr and its codecs raise all kinds of errors on damaged bytes
                raise CorruptArchive(
                    f"{self.path}: {key!r} before episode {first} is damaged ({error}). {archive.REMEDY}"
                ) from error
        rows = np.concatenate([held, rows, np.zeros((end - stop, *rows.shape[1:]), rows.dtype)])
        metadata = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
        beside.mkdir()
        (beside / "zarr.json").write_text(to_json({**metadata, "shape": [end, *rows.shape[1:]]}), encoding="utf-8")
        with zarr.config.set({"array.write_empty_chunks": True}):  # a missing file always means damage
            grown = zarr.open_array(beside, mode="r+")
        grown[begin:end] = rows
        files = [beside / "zarr.json", *files_of(beside, grown, begin, end)]
        return {file: folder / file.relative_to(beside) for file in files}


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


def _end(index: Index) -> int:
    """The place behind the last episode."""
    return index["offsets"][-1] + index["lengths"][-1] if index["lengths"] else 0


def _tidy(path: Path) -> None:
    """Remove what a writer left that was stopped: files and folders that wait for their names."""
    for left in path.glob(".*.new"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


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
    _tidy(path)
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


def _begun(index: Index, episode: Episode, where: str) -> Index:
    """The index of an archive that begins with `episode`: what each key holds, and how many steps a file."""
    if odd := [key for key in episode if not key.isidentifier()]:
        raise ValueError(f"{where}: keys must be identifiers, got {odd[0]!r}")
    schema = {
        key: Column(
            per_step=key in episode.steps,
            dtype=value.dtype.str,
            shape=list(value.shape[1:] if key in episode.steps else value.shape),
        )
        for key, value in episode.items()
    }
    block = min(LONGEST_BLOCK, padded(episode.length, FRAMES_PER_CHUNK))
    if episode.length <= SMALL:
        step = sum(value.nbytes for value in episode.steps.values()) // episode.length  # bytes
        frames = _frames(episode.length)
        block = frames * max(-(-episode.length // frames), min(LONGEST_BLOCK, LARGEST_BLOCK // step) // frames)
    return {**index, "schema": schema, "block": block}


def _frames(length: int) -> int:
    """In a chunk of images of an archive whose first episode has `length` steps: one episode, if it is small."""
    return min(max(length, FEWEST_FRAMES), FRAMES_PER_CHUNK)


def _create_arrays(path: Path, index: Index, length: int) -> None:
    """Empty arrays for episodes like the first one, of `length` steps."""
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    for key, column in index["schema"].items():
        row = np.dtype(column["dtype"]).itemsize * math.prod(column["shape"])  # bytes
        rows = chunk = index["block"]
        if not column["per_step"]:
            rows = chunk = max(1, min(rows // length, CHUNK_BYTES // max(1, row)))
        elif key == "image" or row * rows > CHUNK_BYTES:
            chunk = _frames(length)
        zarr.create_array(
            path / key,
            shape=(0, *column["shape"]),
            dtype=column["dtype"],
            chunks=(chunk, *column["shape"]),
            shards=(rows, *column["shape"]) if chunk < rows else None,
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
