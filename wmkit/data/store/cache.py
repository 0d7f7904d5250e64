"""The cache: a folder of flat .npy files, mapped into memory; what training reads when episodes are stored.

Per-step keys are concatenated over time, (sum of T, ...), per-episode constants stacked, (episodes, ...).
`manifest.json` holds the lengths, every file's size and a CRC-32 of every array of every episode.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

import numpy as np

from wmkit.data.episode import STEP_KEYS, Array, Episode
from wmkit.data.loader import read_in_order
from wmkit.data.store.archive import EpisodeStore
from wmkit.data.store.tiles import can_be_stored, picture_shape, with_pictures, without_pictures
from wmkit.files import sync, write_text

FORMAT = 1
_MANIFEST = "manifest.json"
_REMEDY = "Delete the folder and build the cache again from its archive."


class CorruptCache(ValueError):
    """A cache that is not what was built: delete it and build it again."""


class File(TypedDict):
    """What the manifest says of one key."""

    per_step: bool
    bytes: int
    checksums: list[int]
    """CRC-32 of each episode's part."""


class Manifest(TypedDict):
    """What `manifest.json` holds."""

    format: int
    origin: dict[str, Any]
    lengths: list[int]
    files: dict[str, File]


class CachedEpisodes:
    """The episodes of a cache; arrays are read-only views into the mapped files.

    Sizes are checked when it is opened and again before each episode (a mapped file that shrinks kills the process
    that touches it). An episode's checksums are checked when it is first used: one more pass over data that is about
    to be read anyway. `verify` checks all.

    Raises `ValueError` where there is no cache, `CorruptCache` for a damaged one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        manifest = _read_manifest(self.path)
        self.origin = manifest["origin"]
        """World, seed and split that the episodes came from."""
        self._files, self._lengths = manifest["files"], manifest["lengths"]
        self._begins = [0, *itertools.accumulate(self._lengths)]
        self._check_sizes()
        try:
            self._arrays: dict[str, Array] = {
                key: np.load(self.path / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in self._files
            }
        except (ValueError, OSError) as error:
            raise CorruptCache(f"{self.path}: unreadable ({error}). {_REMEDY}") from error
        for key, file in self._files.items():
            rows = self._begins[-1] if file["per_step"] else len(self)
            if self._arrays[key].shape[:1] != (rows,):
                raise CorruptCache(f"{self.path}/{key}.npy: {self._arrays[key].shape}, expected {rows} rows. {_REMEDY}")
        self._checked: set[int] = set()

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def num_episodes(self) -> int:
        """How many episodes."""
        return len(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return picture_shape({key: array.shape[1:] for key, array in self._arrays.items()})

    @property
    def action_dim(self) -> int:
        """Width A of the action."""
        return int(self._arrays["action"].shape[1])

    def episode_length(self, index: int) -> int:
        """Observations in episode `index`."""
        return self._lengths[index]

    def episode(self, index: int) -> Episode:
        """Episode `index` as views; nothing is copied, but pictures made of tiles are drawn now."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} holds episodes 0 to {len(self) - 1}, got {index}")
        self._check_sizes()
        arrays = {key: self._part(key, index) for key in self._files}
        if index not in self._checked:
            for key, value in arrays.items():
                self._check_sum(key, index, value)
            self._checked.add(index)
        steps = {key: value for key, value in arrays.items() if self._files[key]["per_step"]}
        constants = {key: value for key, value in arrays.items() if not self._files[key]["per_step"]}
        return with_pictures(Episode(steps, constants))

    def verify(self) -> None:
        """Check every checksum; raises `CorruptCache` at the first that is wrong."""
        self._check_sizes()
        for index, key in itertools.product(range(len(self)), self._files):
            self._check_sum(key, index, self._part(key, index))

    def _part(self, key: str, index: int) -> Array:
        if not self._files[key]["per_step"]:
            part: Array = self._arrays[key][index]
            return part
        return self._arrays[key][self._begins[index] : self._begins[index + 1]]

    def _check_sum(self, key: str, index: int, value: Array) -> None:
        if checksum(value) != self._files[key]["checksums"][index]:
            raise CorruptCache(f"{self.path}/{key}.npy: episode {index} has been altered. {_REMEDY}")

    def _check_sizes(self) -> None:
        for key, file in self._files.items():
            path = self.path / f"{key}.npy"
            size = path.stat().st_size if path.is_file() else 0
            if size != file["bytes"]:
                raise CorruptCache(f"{path}: expected {file['bytes']} bytes, found {size}. {_REMEDY}")


def build_cache(store: EpisodeStore, path: str | Path, *, workers: int = 0) -> CachedEpisodes:
    """Make the cache of an archive in the new folder `path`, which appears only when it is complete.

    Raises `ValueError` when there is something at `path`, and `OSError` with nothing left behind when the disk is full.
    """
    path = Path(path)
    if not len(store):
        raise ValueError(f"{store.path}: holds no episodes to make a cache of")
    if path.exists():
        raise ValueError(f"{path}: there is something here already; delete it to build the cache again")
    unfinished = path.with_name(path.name + ".new")
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


def is_cache(path: Path) -> bool:
    """Is there a cache at `path`, whole or damaged?"""
    return (path / _MANIFEST).is_file()


def _fill(folder: Path, store: EpisodeStore, workers: int) -> None:
    columns: dict[str, _Column] = {}
    with contextlib.ExitStack() as stack:
        for episode in read_in_order(store, range(len(store)), workers):
            for key, value in without_pictures(episode, str(store.path)).items():
                if key not in columns:
                    columns[key] = stack.enter_context(_Column(folder, key, store))
                columns[key].append(value)
    lengths = [store.episode_length(i) for i in range(len(store))]
    files = {key: column.entry() for key, column in columns.items()}
    manifest = Manifest(format=FORMAT, origin=store.origin, lengths=lengths, files=files)
    write_text(folder / _MANIFEST, json.dumps(manifest), durable=True)


class _Column:
    """One growing .npy file."""

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


def checksum(value: Array) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(value).data)


def _read_manifest(path: Path) -> Manifest:
    if not is_cache(path):
        raise ValueError(f"{path}: no cache here (no {_MANIFEST}). Build one with wmkit.data.build_cache.")
    try:
        manifest: Manifest = json.loads((path / _MANIFEST).read_text())
        _check_manifest(**manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptCache(f"{path / _MANIFEST}: unreadable ({error!r}). {_REMEDY}") from error
    return manifest


def _check_manifest(format: int, origin: dict[str, Any], lengths: list[int], files: dict[str, File]) -> None:
    if format != FORMAT:
        raise ValueError(f"format {format}, this version reads {FORMAT}")
    if not can_be_stored(set(files), STEP_KEYS) or not all(key.isidentifier() for key in files):
        raise ValueError(f"keys {sorted(files)}")  # they are file names: nothing may lead out of the folder
    if not lengths or min(lengths) < 1 or any(len(file["checksums"]) != len(lengths) for file in files.values()):
        raise ValueError("lengths and checksums do not agree")
