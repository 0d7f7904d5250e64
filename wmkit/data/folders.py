"""Folders of recordings, a file or folder of pictures for each episode, written to archives: what `wmkit import` does.

Files are looked at twice: once all of them for what they have in common (`wmkit.data.own.form_of`), then one by one
when an episode is written. No more than one is in memory.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmkit.data.episode import Array, Episode
from wmkit.data.memory_maze import as_recorded
from wmkit.data.own import Timing, form_of
from wmkit.data.sources import Subset
from wmkit.data.store.archive import EpisodeStore, read_index
from wmkit.data.store.writers import write_archive
from wmkit.data.worlds import SPLITS
from wmkit.files import user_folder

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
LARGEST = 4 << 30
"""Bytes of a video's frames, which are in memory all at once."""
SHARES = (0.8, 0.1, 0.1)
"""Of the episodes, for training, validation and test."""
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


class FolderEpisodes:
    """The recordings of a folder as episodes, read anew each time; see `import_folder`, which writes them down.

    Arguments:
        folder: with one `.npz` file (the arrays of `Episodes`), video, `.gif`, or folder of pictures per episode.
        rename: from names of arrays in `.npz` files to those that are expected, such as `{"frames": "image"}`.
        size, action_dim, actions: as in `Episodes`.

    Raises `ValueError`, naming the file, for what is no recording, and for videos where PyAV is not installed.

    """

    def __init__(
        self,
        folder: str | Path,
        *,
        rename: Mapping[str, str] | None = None,
        size: int | None = None,
        action_dim: int | None = None,
        actions: Timing = "before",
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        self.folder, self.rename = user_folder(folder), dict(rename or {})
        self.files, passed_over = recordings(self.folder)
        if any(file.suffix.lower() in VIDEOS for file in self.files) and importlib.util.find_spec("av") is None:
            raise ValueError(
                f"{self.folder}: reading videos needs PyAV, the extra `video`: pip install av. "
                "A .gif or a folder of pictures for each episode needs nothing more"
            )
        self.form = form_of(self._all(progress), size=size, action_dim=action_dim, actions=actions)
        self.notes = (*([passed_over] if passed_over else []), *self.form.notes)
        self.image_shape, self.action_dim = self.form.image_shape, self.form.action_dim

    @property
    def num_episodes(self) -> int:
        """How many."""
        return len(self.files)

    def episode_length(self, index: int) -> int:
        """Observations in episode `index`."""
        return self.form.lengths[index]

    def episode(self, index: int) -> Episode:
        """The arrays of episode `index`, read now."""
        if not 0 <= index < len(self.files):
            raise IndexError(f"{self.folder}: there are episodes 0 to {len(self.files) - 1}, got {index}")
        return self.form.episode(self._arrays(self.files[index]), self.files[index].name)

    def _all(self, progress: Progress) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for number, file in enumerate(self.files):
            progress("looking at", number, len(self.files))
            yield file.name, self._arrays(file)
        progress("looking at", len(self.files), len(self.files))

    def _arrays(self, file: Path) -> Mapping[str, Any]:
        kind = "pictures" if file.is_dir() else file.suffix.lower()
        read = {"pictures": _pictures, ".npz": _npz, ".gif": _gif}.get(kind, _video)
        try:
            found = read(file)
        except Exception as error:  # whatever libraries raise on damaged bytes
            raise ValueError(f"{file}: cannot be read ({error}): repair it, or take it out of the folder") from error
        if missing := sorted(set(self.rename) - set(found)):
            raise ValueError(f"{file}: --rename: no {missing[0]!r} among {sorted(found)}")
        names = [self.rename.get(key, key) for key in found]
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise ValueError(
                f"{file}: --rename: two of {sorted(found)} would be called {twice[0]!r}; rename the other too"
            )
        found = dict(zip(names, found.values(), strict=True))
        if "image" not in found:
            raise ValueError(
                f"{file}: no 'image' among {sorted(found)}; say which it is, as in --rename frames=image "
                '(in Python rename={"frames": "image"})'
            )
        return found


def import_folder(
    folder: str | Path,
    out: str | Path,
    *,
    split: Sequence[float] = SHARES,
    rename: Mapping[str, str] | None = None,
    size: int | None = None,
    action_dim: int | None = None,
    actions: Timing = "before",
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = warnings.warn,
) -> dict[str, EpisodeStore]:
    """Write the recordings of a folder to the archives `train`, `valid` and `test` in the folder `out`.

    split: shares of the episodes, or just the first one or two. Which episode goes where is drawn once, the same each
    time; the same call on the same recordings goes on where one was stopped. The rest as in `FolderEpisodes`; `say`
    gets what was decided or changed, a sentence at a time; it is a warning otherwise.

    Raises `ValueError` as `FolderEpisodes` does, for shares that leave a split without episodes, and for archives in
    `out` of other recordings, contents or settings.
    """
    parts = split_episodes(len(recordings(user_folder(folder))[0]), split)
    source = FolderEpisodes(folder, rename=rename, size=size, action_dim=action_dim, actions=actions, progress=progress)
    for note in source.notes:
        say(note)
    about = {
        "imported": Path(os.path.abspath(folder)).name,
        "of": source.form.digest,
        "shares": padded_shares(split),
        "rename": source.rename,
        "size": size,
        "action_dim": action_dim,
        "actions": actions,
    }
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
    if "train" in sizes:
        sizes["train"] = count - sum(number for split, number in sizes.items() if split != "train")
    if min(sizes.values()) < 1 or sum(sizes.values()) > count:
        needed = sum(least[split] for split in sizes)
        raise ValueError(
            f"split: {count} episodes are too few for {', '.join(sizes)}: expected {needed} or more, two for the test. "
            "Take more, cut long recordings in pieces, or write one split alone: 1"
        )
    order = np.random.default_rng(0).permutation(count).tolist()
    starts = np.cumsum([0, *sizes.values()]).tolist()
    return {split: sorted(order[a:b]) for split, a, b in zip(sizes, starts[:-1], starts[1:], strict=True)}


def recordings(folder: Path) -> tuple[list[Path], str]:
    """The recordings in a folder, in the order of their names, numbers by value, and a sentence on what is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder. Expected one with a recording for each episode")
    here = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_in_order)
    kinds = (".npz", ".gif", *VIDEOS)
    found = [
        path
        for path in here
        if (path.is_dir() and any(one.suffix.lower() in PICTURES for one in path.iterdir()))
        or (path.is_file() and path.suffix.lower() in kinds)
    ]
    if not found:
        there = ", ".join(path.name for path in here[:5]) or "nothing"
        raise ValueError(
            f"{folder}: no recordings here. Expected a {', '.join(kinds)} file, or a folder of "
            f"{', '.join(PICTURES)} files, for each episode; there is {there}"
        )
    others = Counter(path.suffix or "folders" for path in here if path not in found)
    named = ", ".join(f"{number} {kind}" for kind, number in sorted(others.items()))
    return found, f"Passed over in {folder}: {named}." if others else ""


def _in_order(path: Path) -> list[tuple[int, str]]:
    """For sorting by name with numbers by value: frame_9 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name) if part]


def _npz(file: Path) -> dict[str, Array]:
    found = {}
    with file.open("rb") as bytes_, np.load(bytes_, allow_pickle=False) as arrays:
        for key in arrays.files:
            try:
                found[key] = arrays[key]
            except ValueError as error:  # Python objects are not unpickled: that may run the code of whoever made them
                if "allow_pickle" not in str(error):
                    raise
                found[key] = np.empty(0, object)
    return as_recorded(found)


def _pictures(folder: Path) -> dict[str, Array]:
    """`image` (T, H, W, 3) or, where all are grey, (T, H, W)."""
    from PIL import Image

    frames = []
    for path in sorted(folder.iterdir(), key=_in_order):
        if path.suffix.lower() in PICTURES:
            with Image.open(path) as image:
                frames.append(np.asarray(image if image.mode == "L" else image.convert("RGB")))
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) > 1:
        raise ValueError(f"its pictures are of different sizes or colours, {shapes[0]} and {shapes[1]}")
    return {"image": np.stack(frames)}


def _gif(file: Path) -> dict[str, Array]:
    """`image` (T, H, W, 3)."""
    from PIL import Image, ImageSequence

    with Image.open(file) as image:
        return {"image": np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])}


def _video(file: Path) -> dict[str, Array]:
    """`image` (T, H, W, 3)."""
    import av

    frames: list[Array] = []
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) * frames[0].nbytes > LARGEST:
                raise ValueError(
                    f"its first {len(frames)} frames alone take {LARGEST / 2**30:.2g} GiB; cut it in pieces, or make "
                    f"it smaller first, as by ffmpeg -i {file.name} -vf scale=128:128 small.mp4"
                )
    return {"image": np.stack(frames)}
