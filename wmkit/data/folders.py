"""Folders of recordings, written to archives: what `wmkit import` does.

Recordings are looked at twice: once all of them for what they have in common (`wmkit.data.own.form_of`), so that
nothing is written where one of them cannot be, then one by one when episodes are written. Of
videos, GIFs and pictures no more than an episode is held in memory, of other files a whole recording.
"""

from __future__ import annotations

import bisect
import functools
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from wmkit.checks import check_integer
from wmkit.data.episode import Episode
from wmkit.data.layouts import open_layout
from wmkit.data.lerobot import INFO, LeRobot
from wmkit.data.minari import DATA, MinariEpisodes
from wmkit.data.own import Timing, form_of
from wmkit.data.readers import Files, Reader, Unfit, pieces
from wmkit.data.sources import Subset
from wmkit.data.store.archive import EpisodeStore, read_index
from wmkit.data.store.writers import write_archive
from wmkit.data.worlds import SPLITS
from wmkit.files import user_folder

SHARES = (0.8, 0.1, 0.1)
"""Of the episodes, for training, validation and test."""
TOO_MUCH = 1.5
"""Times its share that a split may have of episodes, where a recording that fits better is left."""
NOTHING = (-1, -1, iter(()))
"""No recording is being read."""
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


def open_recordings(folder: Path, layout: str | None = None) -> Reader:
    """What reads a folder: a published data set's layout, LeRobot's or Minari's form, or a file for each recording."""
    if layout is not None:
        return open_layout(layout, folder)
    if (folder / INFO).is_file():
        return LeRobot(folder)
    return MinariEpisodes(folder) if (folder / DATA).is_file() else Files(folder)


class FolderEpisodes:
    """The recordings of a folder as episodes, read anew each time; see `import_folder`, which writes them down.

    Arguments:
        folder: with one `.npz` file (the arrays of `Episodes`), video, `.gif`, or folder of pictures per recording; or
            a data set of LeRobot 3 or Minari.
        rename: from names of arrays to those that are expected, such as `{"frames": "image"}`.
        size, action_dim: as in `Episodes`.
        actions: as in `Episodes`; None: what the format says, else `before`.
        stride: keep every n-th frame, of recordings without actions.
        length: cut recordings into episodes of so many steps; None: each is one.
        layout: name of a published data set, see `wmkit.data.layouts`; None: none.

    Raises `ValueError`, naming the file, for what is no recording, what is shorter than `length`, and for videos where
    PyAV is not installed.

    """

    def __init__(
        self,
        folder: str | Path,
        *,
        rename: Mapping[str, str] | None = None,
        size: int | None = None,
        action_dim: int | None = None,
        actions: Timing | None = None,
        stride: int = 1,
        length: int | None = None,
        layout: str | None = None,
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        self.stride = check_integer("stride", stride, 1)
        self.length = None if length is None else check_integer("length", length, 2)
        self.folder, self.rename = user_folder(folder), dict(rename or {})
        self.reader = open_recordings(self.folder, layout)
        timing = self.reader.timing
        if actions is not None and timing is not None and actions != timing:
            raise ValueError(f"{self.folder}: actions: {actions!r}, but in data sets of this form they are {timing!r}")
        self.actions: Timing = actions or timing or "before"
        self.of: list[int] = []
        """Of each episode the number of its recording."""
        self._left_over: list[int] = []
        self._lock = threading.Lock()
        self._going_on: tuple[int, int, Iterator[tuple[str, Mapping[str, Any]]]] = NOTHING
        """The recording that was read last, how many of its episodes, and those that follow."""
        self.form = form_of(self._all(progress), size=size, action_dim=action_dim, actions=self.actions)
        notes = [self.reader.note] if self.reader.note else []
        if length is not None:
            left = sum(self._left_over)
            rest = f"; frames left out at their ends: {left}" if left else ""
            notes.append(f"Recordings: {len(self.reader.names)}, cut into {len(self.of)} episodes of {length}{rest}.")
        self.notes = (*notes, *self.form.notes)
        self.image_shape, self.action_dim = self.form.image_shape, self.form.action_dim

    @property
    def num_episodes(self) -> int:
        """How many."""
        return len(self.of)

    def episode_length(self, index: int) -> int:
        """Observations in episode `index`."""
        return self.form.lengths[index]

    def episode(self, index: int) -> Episode:
        """The arrays of episode `index`, read now; those of a long recording are best read in order."""
        if not 0 <= index < len(self.of):
            raise IndexError(f"{self.folder}: there are episodes 0 to {len(self.of) - 1}, got {index}")
        number = self.of[index]
        wanted = index - bisect.bisect_left(self.of, number)
        with self._lock:
            going_on, following, episodes = self._going_on
            if (going_on, following) != (number, wanted):
                following, episodes = 0, self._episodes(number)
            self._going_on = NOTHING  # unless this one can be read
            found = next(islice(episodes, wanted - following, None), None)
            if found is None:
                raise ValueError(f"{self.reader.places[number]}: it has become shorter since it was looked at")
            if self.length is not None:
                self._going_on = number, wanted + 1, episodes
        where, arrays = found
        return self.form.episode(arrays, where)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: without the lock and the recording that is being read."""
        return {**vars(self), "_lock": None, "_going_on": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock(), _going_on=NOTHING)

    def _all(self, progress: Progress) -> Iterator[tuple[str, Mapping[str, Any]]]:
        total = len(self.reader.names)
        for number in range(total):
            progress("looking at", number, total)
            for where, arrays in self._episodes(number, self._left_over.append):
                self.of.append(number)
                yield where, arrays
        progress("looking at", total, total)

    def _episodes(
        self, number: int, left_over: Callable[[int], None] = lambda frames: None
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The episodes of a recording, each with what to call it."""
        name, file = self.reader.names[number], self.reader.places[number]
        try:
            found = self._renamed(self.reader.arrays(number))
            for part, arrays in enumerate(pieces(found, self.stride, self.length, self.actions, left_over)):
                yield (name if self.length is None else f"{name}, clip {part}"), arrays
        except Unfit as error:
            raise ValueError(f"{file}: {error}") from error
        except Exception as error:  # whatever libraries raise on damaged bytes
            raise ValueError(f"{file}: cannot be read ({error}): {self.reader.advice}") from error

    def _renamed(self, found: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arrays under the names that are asked for, without the cameras that are not."""
        if missing := sorted(set(self.rename) - set(found)):
            raise Unfit(f"--rename: no {missing[0]!r} among {sorted(found)}")
        names = [self.rename.get(key, key) for key in found]
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise Unfit(f"--rename: two of {sorted(found)} would be called {twice[0]!r}; rename the other too")
        named = dict(zip(names, found.values(), strict=True))
        if "image" not in named:
            raise Unfit(
                f"no 'image' among {sorted(named)}; say which it is, as in --rename frames=image "
                '(in Python rename={"frames": "image"})'
            )
        return {key: value for key, value in named.items() if key == "image" or not isinstance(value, Iterator)}


def import_folder(
    folder: str | Path,
    out: str | Path,
    *,
    split: Sequence[float] | None = None,
    rename: Mapping[str, str] | None = None,
    size: int | None = None,
    action_dim: int | None = None,
    actions: Timing | None = None,
    stride: int = 1,
    length: int | None = None,
    layout: str | None = None,
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = warnings.warn,
) -> dict[str, EpisodeStore]:
    """Write the recordings of a folder to the archives `train`, `valid` and `test` in the folder `out`.

    split: shares of the episodes, or just the first one or two; None: those of a `layout`, else `SHARES`. Which
    recording goes where is drawn once, the same each time; the same call on the same recordings goes on where one was
    stopped. The episodes that one recording is cut into stay together, unless there are too few recordings to fill the
    splits: then what comes first is for training, what comes last for the test. The rest as in `FolderEpisodes`; `say`
    gets what was decided or changed, a sentence at a time; it is a warning otherwise.

    Raises `ValueError` as `FolderEpisodes` does, for shares that leave a split without episodes, and for archives in
    `out` of other recordings, contents or settings. Nothing is written before all recordings have been read.
    """
    if layout is not None and split is not None:
        raise ValueError(f"split: {layout} has its own, leave it out")
    shares = SHARES if split is None else split
    reader = open_recordings(user_folder(folder), layout)
    if reader.splits is None and length is None:
        split_episodes(len(reader.names), shares)  # refused before anything long
    source = FolderEpisodes(
        folder,
        rename=rename,
        size=size,
        action_dim=action_dim,
        actions=actions,
        stride=stride,
        length=length,
        layout=layout,
        progress=progress,
    )
    for note in source.notes:
        say(note)
    about: dict[str, Any] = {
        "imported": Path(os.path.abspath(folder)).name,
        "of": source.form.digest,
        "shares": padded_shares(shares) if layout is None else layout,
        "rename": source.rename,
        "size": size,
        "action_dim": action_dim,
        "actions": source.form.actions,
    }
    about |= {key: value for key, value in (("stride", stride), ("length", length)) if value not in (1, None)}
    if source.reader.splits is not None:
        published = source.reader.splits
        parts = {part: [i for i, of in enumerate(source.of) if published[of] == part] for part in SPLITS}
        parts = {part: indices for part, indices in parts.items() if indices}
    else:
        parts = split_recordings(source.of, shares, say)
    return {
        part: write_archive(
            Subset(source, parts[part]),
            user_folder(out) / part,
            origin=origin,
            progress=functools.partial(progress, f"writing {part}"),
        )
        for part, origin in origins_of(out, parts, about).items()
    }


def origins_of(out: str | Path, parts: Iterable[str], about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The `origin` of the archive of each split of `parts` in the folder `out`.

    about: all that decides which episodes they hold; under `of`, where splits are drawn from the same episodes, from
    which, whatever the shares. Raises `ValueError`, before anything is written, where an archive in `out` was made
    otherwise, or would share episodes.
    """
    folder = user_folder(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out: {folder} is a file, expected a folder for the archives: name another")
    origins = {part: {"split": part, **about} for part in parts}
    for part in SPLITS:
        path = folder / part
        if not (path / "zarr.json").exists():
            strangers = not path.is_dir() or any(not one.name.startswith(".zarr.json.") for one in path.iterdir())
            if part in origins and path.exists() and strangers:
                raise ValueError(
                    f"{path}: expected an archive or nothing here. Nothing was written: name another folder"
                )
            continue
        held = read_index(path)["origin"]
        wanted = origins.get(part, held)
        changed = [key for key in {**wanted, **held} if held.get(key) != wanted.get(key)]
        values = [f"{key} is {wanted.get(key)!r}, there it was {held.get(key)!r}" for key in changed if key != "of"]
        if part not in origins and "of" in held and held["of"] == about.get("of"):
            values = ["the same episodes under other shares, so that some would be in two splits"]
        elif "of" in changed:
            values.insert(0, "other contents")
        if values:
            raise ValueError(
                f"{path}: an archive that was made otherwise ({'; '.join(values)}). Nothing was written: name another "
                f"folder, or delete {folder} to make it anew"
            )
    return origins


def padded_shares(shares: Sequence[float]) -> list[float]:
    """Three shares, for training, validation and test."""
    return [*map(float, shares), *[0.0] * (len(SPLITS) - len(shares))]


def split_episodes(count: int, shares: Sequence[float]) -> dict[str, list[int]]:
    """Numbers 0..count-1 by split, drawn once and for all.

    A split with a share gets an episode at least, the test two, so that one can be compared with another. Raises
    `ValueError` for shares that are none, and for too few episodes.
    """
    if isinstance(shares, str) or not isinstance(shares, Sequence | np.ndarray):
        raise ValueError(f"split: expected shares such as (0.8, 0.1, 0.1), or (1,) for training alone, got {shares!r}")
    if not 1 <= len(shares) <= len(SPLITS) or not all(0 <= x <= 1 for x in shares) or not 0.99 < sum(shares) < 1.01:
        raise ValueError(f"split: expected up to three shares that make 1, such as 0.8,0.1,0.1, got {list(shares)}")
    wanted = dict(zip(SPLITS, shares, strict=False))
    least = {"train": 1, "valid": 1, "test": 2}
    sizes = {split: max(least[split], round(share * count)) for split, share in wanted.items() if share}
    first, *others = sizes
    sizes[first] = count - sum(sizes[split] for split in others)  # what rounding leaves is never lost
    if sizes[first] < least[first]:
        needed = sum(least[split] for split in sizes)
        raise ValueError(
            f"split: {count} episodes are too few for {', '.join(sizes)}: expected {needed} or more, two for the test. "
            "Take more, cut long recordings in pieces, or write one split alone: 1"
        )
    order = np.random.default_rng(0).permutation(count).tolist()
    starts = np.cumsum([0, *sizes.values()]).tolist()
    return {split: sorted(order[a:b]) for split, a, b in zip(sizes, starts[:-1], starts[1:], strict=True)}


def split_recordings(
    of: Sequence[int], shares: Sequence[float], say: Callable[[str], None] = warnings.warn
) -> dict[str, list[int]]:
    """Numbers of episodes by split, such that those of one recording stay together.

    of: the number of each episode's recording, in order. Where each recording is one episode, that is `split_episodes`;
    where there are too few recordings to keep them whole, all is cut in time: what comes first is for training, what
    comes last for the test, and `say` is told. Raises `ValueError` as `split_episodes` does.
    """
    count = Counter(of)
    if len(count) == len(of):
        return split_episodes(len(of), shares)
    sizes = {part: len(indices) for part, indices in split_episodes(len(of), shares).items()}
    order = np.random.default_rng(0).permutation(len(count)).tolist()
    split_of: dict[int, str] = {}
    first = next(iter(sizes))
    for part in reversed(sizes):  # the smaller shares first, what remains is for the first split, mostly training
        filled = 0
        while order and (filled < sizes[part] or part == first):
            fitting = [number for number in order if filled + count[number] <= TOO_MUCH * sizes[part]]
            chosen = (fitting or [min(order, key=count.__getitem__)])[0]
            order.remove(chosen)
            split_of[chosen] = part
            filled += count[chosen]
    if set(split_of.values()) != set(sizes):
        say(
            f"There are too few recordings, {len(count)}, to keep each in one split: what comes first is for training, "
            "what comes last for the test."
        )
        starts = np.cumsum([0, *sizes.values()]).tolist()
        return {part: list(range(a, b)) for part, a, b in zip(sizes, starts, starts[1:], strict=False)}
    return {part: [i for i, number in enumerate(of) if split_of[number] == part] for part in sizes}
