"""The archive: episodes in a zarr v3 folder with checksummed chunks. Reading; `wmkit.data.store.writers` writes.

Layout: one array per key. Per-step arrays are concatenated over time, (offset, ...); per-episode constants are stacked,
(episode, ...). A file holds `block` steps: one long episode, or as many small ones, one after another, as fit; what is
left of it is zeros, and the next episode begins the next file. So damage stays within one file. The group's attributes
hold the index (offsets, lengths), the schema, where the episodes came from (world, seed, split) and versions. Pictures
made of tiles are kept as tile numbers (`wmkit.data.store.tiles`).
"""

from __future__ import annotations

import itertools
import json
import math
import threading
from pathlib import Path
from typing import Any, TypedDict

from wmkit.data.episode import STEP_KEYS, Array, Episode
from wmkit.data.store.tiles import can_be_stored, picture_shape, with_pictures
from wmkit.files import user_folder

ATTRIBUTE = "wmkit_episodes"
FORMAT = 2
"""In format 1 every episode, however small, had files of its own."""
CHUNK_BYTES = 256 << 10
"""Of a decoded chunk that is kept for the next small episode, at most."""
KEPT_BYTES = 128 << 20
"""Of the decoded chunks that a store keeps, those used last."""


class CorruptArchive(ValueError):
    """An archive that is not what its writer committed: says which file or episode, and what to do."""


class Column(TypedDict):
    """What one key holds in every episode."""

    per_step: bool
    """Whether it has a time axis."""
    dtype: str
    shape: list[int]
    """Of one step, or of one episode's constant."""


class Index(TypedDict):
    """What the archive's attributes hold."""

    format: int
    block: int
    """Steps in a file."""
    schema: dict[str, Column]
    offsets: list[int]
    lengths: list[int]
    origin: dict[str, Any]
    """World, seed and split; episode i of the archive is index i of them."""
    versions: dict[str, str]


class EpisodeStore:
    """The episodes of an archive.

    Raises `ValueError` where there is no archive and `CorruptArchive` for a damaged index, file or checksum.
    """

    def __init__(self, path: str | Path) -> None:
        import zarr  # half a second that only users of archives pay

        self.path = user_folder(path)
        self.index = read_index(self.path)
        try:
            self._arrays: dict[str, Any] = {
                key: zarr.open_array(self.path / key, mode="r") for key in self.index["schema"] if len(self)
            }
        except Exception as error:  # whatever damaged metadata makes zarr raise
            raise CorruptArchive(f"{self.path}: an array's metadata is unreadable ({error}). {REMEDY}") from error
        self._kept: dict[tuple[str, int], Array] = {}
        self._kept_bytes, self._lock = 0, threading.Lock()

    def __len__(self) -> int:
        return len(self.index["lengths"])

    @property
    def num_episodes(self) -> int:
        """How many episodes are committed."""
        return len(self)

    @property
    def origin(self) -> dict[str, Any]:
        """World, seed and split that the episodes came from."""
        return self.index["origin"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return picture_shape({key: tuple(column["shape"]) for key, column in self.index["schema"].items()})

    @property
    def action_dim(self) -> int:
        """Width A of the action."""
        return self.index["schema"]["action"]["shape"][0]

    def episode_length(self, index: int) -> int:
        """Observations in episode `index`."""
        return self.index["lengths"][index]

    def episode(self, index: int) -> Episode:
        """Episode `index`; every chunk's checksum is checked."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} holds episodes 0 to {len(self) - 1}, got {index}")
        schema = self.index["schema"]
        steps = {key: self._read(key, index) for key in self._arrays if schema[key]["per_step"]}
        constants = {key: self._read(key, index) for key in self._arrays if not schema[key]["per_step"]}
        return with_pictures(Episode(steps, constants))

    def verify(self) -> list[str]:
        """Read everything; one line for each damaged array of each episode, none when all is well."""
        damage = []
        for index, key in itertools.product(range(len(self)), self._arrays):
            try:
                self._read(key, index)
            except CorruptArchive as error:
                damage.append(str(error))
        return damage

    def _read(self, key: str, index: int) -> Array:
        start, stop = span(self.index, key, index)
        array = self._arrays[key]
        number, place = divmod(start, array.chunks[0])
        in_one = place + stop - start <= array.chunks[0]
        try:
            if in_one and math.prod(array.chunks) * array.dtype.itemsize <= CHUNK_BYTES:
                value = self._chunk(key, number)[place : place + stop - start].copy()
            else:
                value = read_rows(self.path / key, array, start, stop)
        except Exception as error:  # zarr and its codecs raise all kinds of errors on damaged bytes
            raise CorruptArchive(f"{self.path}: episode {index}, {key!r} is damaged ({error}). {REMEDY}") from error
        return value if self.index["schema"][key]["per_step"] else value[0]

    def _chunk(self, key: str, number: int) -> Array:
        """A whole chunk: zarr takes longer for a call than for what a small episode has in it."""
        with self._lock:
            rows = self._kept.pop((key, number), None)
            if rows is not None:
                self._kept[key, number] = rows  # the last one again
                return rows
        array = self._arrays[key]
        start = number * array.chunks[0]
        rows = read_rows(self.path / key, array, start, min(start + array.chunks[0], array.shape[0]))
        with self._lock:
            if (key, number) not in self._kept:  # by another thread
                self._kept[key, number] = rows
                self._kept_bytes += rows.nbytes
            while self._kept_bytes > KEPT_BYTES:
                self._kept_bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return rows


REMEDY = "Restore it from a copy, or delete the folder and write it again (same world, seed and split)."


def span(index: Index, key: str, episode: int) -> tuple[int, int]:
    """First and last + 1 place of an episode along the leading axis of `key`."""
    if not index["schema"][key]["per_step"]:
        return episode, episode + 1
    return index["offsets"][episode], index["offsets"][episode] + index["lengths"][episode]


def read_rows(folder: Path, array: Any, start: int, stop: int) -> Array:
    """Places start..stop-1 of the array in `folder`.

    Raises `FileNotFoundError` for a missing file, which zarr takes for zeros that were never written; zarr and its
    codecs raise all kinds of errors on damaged bytes.
    """
    missing = [file for file in files_of(folder, array, start, stop) if not file.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0].relative_to(folder.parent)} is missing")
    rows: Array = array[start:stop]
    return rows


def files_of(folder: Path, array: Any, start: int, stop: int) -> list[Path]:
    """The files that hold places start..stop-1 of the array in `folder`; none where a place holds no number."""
    size, *rest = array.shards or array.chunks
    if 0 in rest:  # the actions of a world without any
        return []
    return [folder.joinpath("c", str(n), *["0"] * len(rest)) for n in range(start // size, -(-stop // size))]


def read_index(path: Path) -> Index:
    """The committed index of the archive at `path`."""
    file = path / "zarr.json"
    if not file.is_file():
        raise ValueError(
            f"{path}: no archive here (no zarr.json). Write one with wmkit.data.write_archive, or of a folder of "
            "recordings with `wmkit import`."
        )
    try:
        index: Index = json.loads(file.read_text(encoding="utf-8"))["attributes"][ATTRIBUTE]
        _check_index(index)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArchive(f"{file}: the index is unreadable ({error!r}). {REMEDY}") from error
    return index


def _check_index(index: Index) -> None:
    if index["format"] not in range(1, FORMAT + 1):
        raise ValueError(f"format {index['format']}, this version reads up to {FORMAT}: install a newer wmkit")
    if not all(key.isidentifier() and isinstance(column["per_step"], bool) for key, column in index["schema"].items()):
        raise ValueError("keys must be identifiers")  # they become folder names: nothing may lead out of the archive
    if index["lengths"] and not can_be_stored(set(index["schema"]), STEP_KEYS):
        raise ValueError(f"keys: needs {STEP_KEYS}, has {sorted(index['schema'])}")
    end = 0
    for offset, length in zip(index["offsets"], index["lengths"], strict=True):
        if length < 1 or offset not in (end, padded(end, index["block"])):
            raise ValueError(f"an episode of {length} steps at {offset}, expected one at {end} or the next block")
        end = offset + length


def padded(length: int, block: int) -> int:
    """`length` rounded up to whole blocks."""
    return -(-length // block) * block
