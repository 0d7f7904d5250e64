"""The cache: a folder of flat .npy files, mapped into memory; what training reads when episodes are stored.

Reading; `wmkit.data.store.writers` writes.
Per-step keys are concatenated over time, (sum of T, ...), per-episode constants stacked, (episodes, ...).
`manifest.json` holds the lengths, every file's size and a CRC-32 of every array of every episode.
"""

from __future__ import annotations

import itertools
import json
import zlib
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from wmkit.data.episode import STEP_KEYS, Array, Episode
from wmkit.data.store.tiles import can_be_stored, picture_shape, with_pictures
from wmkit.files import user_folder

FORMAT = 1
MANIFEST = "manifest.json"
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
        self.path = user_folder(path)
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


def is_cache(path: Path) -> bool:
    """Whether there is a cache at `path`, whole or damaged."""
    return (path / MANIFEST).is_file()


def checksum(value: Array) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(value).data)


def _read_manifest(path: Path) -> Manifest:
    if not is_cache(path):
        raise ValueError(f"{path}: no cache here (no {MANIFEST}). Build one with wmkit.data.build_cache.")
    try:
        manifest: Manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        _check_manifest(**manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptCache(f"{path / MANIFEST}: unreadable ({error!r}). {_REMEDY}") from error
    return manifest


def _check_manifest(format: int, origin: dict[str, Any], lengths: list[int], files: dict[str, File]) -> None:
    if format != FORMAT:
        raise ValueError(f"format {format}, this version reads {FORMAT}")
    if not can_be_stored(set(files), STEP_KEYS) or not all(key.isidentifier() for key in files):
        raise ValueError(f"keys {sorted(files)}")  # they are file names: nothing may lead out of the folder
    if not lengths or min(lengths) < 1 or any(len(file["checksums"]) != len(lengths) for file in files.values()):
        raise ValueError("lengths and checksums do not agree")
