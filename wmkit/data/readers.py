"""What a folder of recordings holds, recording by recording: files of arrays, videos, GIFs, folders of pictures.

A reader gives the arrays of a recording as they are there. Images of what must be decoded come frame by frame, so that
a long video is never in memory as a whole: `pieces` cuts it into clips as it goes.
"""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from wmkit.data.episode import Array
from wmkit.data.memory_maze import as_recorded
from wmkit.data.own import Timing

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
PICTURE_FORMATS = ("PNG", "JPEG", "BMP")
"""As Pillow calls those: by itself it takes whatever a file's first bytes say, and runs other programs for some."""
LARGEST = 4 << 30
"""Bytes of an episode's frames before they are made smaller, which are in memory all at once."""
TIMED = ("action", "reward", "is_terminal")
"""Keys that have a row for each step, or one less: see `Episodes`, `actions="after"`."""
PYAV = "reading videos needs PyAV, the extra `video`: pip install av"
Format = Literal["rgb24", "gray"]
"""Of decoded frames, as PyAV calls it."""


class Unfit(ValueError):
    """A recording that can be read, but cannot be what was asked for."""


class Reader(Protocol):
    """Recordings by their numbers."""

    @property
    def names(self) -> Sequence[str]:
        """What each is called, in messages and in what tells archives apart."""

    @property
    def places(self) -> Sequence[Path]:
        """Where each is."""

    @property
    def advice(self) -> str:
        """What to do about a recording that cannot be read."""

    @property
    def note(self) -> str:
        """What was passed over or looks odd, as far as it has been read; empty: nothing."""

    @property
    def timing(self) -> Timing | None:
        """Whether actions led to images or were chosen at them; None: the format does not say."""

    @property
    def splits(self) -> Sequence[str] | None:
        """The split of each, where it is published; None: it is to be drawn."""

    def arrays(self, index: int) -> dict[str, Any]:
        """Arrays by name, `image` (T, H, W, C), (T, H, W), or an iterator over frames."""


class Files:
    """A file, or a folder of pictures, for each recording. Raises `ValueError` where there are none, or no PyAV."""

    timing: Timing | None = None
    advice = "repair it, or take it out of the folder"

    def __init__(
        self, folder: Path, files: Sequence[Path] | None = None, splits: Sequence[str] | None = None, grey: bool = False
    ) -> None:
        self.places, passed_over = recordings(folder) if files is None else (files, "")
        self.names, self.splits, self.grey = [file.name for file in self.places], splits, grey
        self._notes = {passed_over: None} if passed_over else {}
        if any(file.suffix.lower() in VIDEOS for file in self.places) and importlib.util.find_spec("av") is None:
            raise ValueError(f"{folder}: {PYAV}. A .gif or a folder of pictures for each episode needs nothing more")

    @property
    def note(self) -> str:
        """See `Reader`."""
        return " ".join(self._notes)

    def arrays(self, index: int) -> dict[str, Any]:
        """See `Reader`. Raises whatever libraries raise on damaged bytes."""
        file = self.places[index]
        if file.suffix.lower() == ".npz" and file.is_file():
            return _npz(file)
        if file.is_dir():
            return {"image": _pictures(file)}
        if file.suffix.lower() == ".gif":
            return {"image": _gif(file)}

        def told(there: int, promised: int) -> None:
            self._notes[f"{file.name} has {there} frames, its own table says {promised}: it may be cut off."] = None

        return {"image": video_frames(file, "gray" if self.grey else "rgb24", told=told)}


def recordings(folder: Path) -> tuple[list[Path], str]:
    """The recordings in a folder, in the order of their names, numbers by value, and a sentence on what is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder. Expected one with a recording for each episode")
    here = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=in_order)
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


def in_order(path: Path) -> list[tuple[int, str]]:
    """For sorting by name with numbers by value: frame_9 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name) if part]


def pieces(
    arrays: Mapping[str, Any], stride: int, length: int | None, actions: Timing, left_over: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """Cut a recording into episodes of `length` steps (None: one of all) out of every `stride`-th frame.

    Other arrays are cut along, those that have a row for each step. actions: see `Episodes`; with `after` those of
    `TIMED` may be one row shorter. left_over: told how many steps at the end make no episode. Raises `Unfit` for frames
    beyond `LARGEST`, a stride where there are actions, fewer steps than `length`, and arrays that would not fit the
    frames they are cut with.
    """
    frames = arrays["image"]
    if stride > 1 and "action" in arrays:
        raise Unfit(
            "a stride leaves steps out, and what was done at them would be lost: it is for videos without actions"
        )
    if isinstance(frames, np.ndarray) and length is None and stride == 1:
        yield dict(arrays)
        return
    others = {key: np.asarray(value) for key, value in arrays.items() if key != "image"}
    if isinstance(frames, np.ndarray):
        if frames.dtype.kind not in "biuf" or frames.ndim < 3:
            raise Unfit(f"image: expected numbers (T, H, W, C) or (T, H, W), got {frames.dtype} {frames.shape}")
        total = len(frames)
        _check_rows(others, total, actions)
        if (ends := others.get("is_terminal")) is not None and len(ends) == total - 1:
            others["is_terminal"] = np.concatenate([np.zeros(1, ends.dtype), ends])  # of the image that a step led to
    else:
        total = max((len(one) for one in others.values() if one.ndim), default=0)
    timed = {key for key, value in others.items() if value.ndim and (len(value) == total or key in TIMED)}
    held: list[Array] = []
    begin = 0
    for frame in islice(frames, 0, None, stride):
        held.append(frame)
        if len(held) * frame.nbytes > LARGEST:
            raise Unfit(
                f"its first {len(held)} frames alone take {LARGEST / 2**30:.2g} GiB: have it cut into shorter clips, "
                "as by --length 100, or make it smaller first, as by ffmpeg -i VIDEO -vf scale=128:128 small.mp4"
            )
        if len(held) == length:
            piece = [_piece(held, others, timed, begin, stride)]
            begin, held = begin + length, []
            yield piece.pop()  # neither it nor its frames stay here while it is in use
    if length is None:
        if not held:
            raise ValueError("it has no frames")
        yield _piece(held, others, timed, 0, stride)
    elif not begin:
        at = f" at a stride of {stride}" if stride > 1 else ""
        raise Unfit(f"it has {len(held)} frames{at}, fewer than the length of {length} that was asked for")
    else:
        left_over(len(held))


def _check_rows(others: Mapping[str, Array], total: int, actions: Timing) -> None:
    """Raises `Unfit` for arrays of as many rows that they would not fit the images, `total`, that they are cut with."""
    for key, value in others.items():
        rows = len(value) if value.ndim else 0
        if key in TIMED and rows not in ((total,) if actions == "before" else (total, total - 1)):
            after = rows == total - 1
            raise Unfit(
                f"{key}: expected {total} steps, as image has, got {value.shape}"
                + (". If action[t] was chosen at image[t], say actions='after' (--actions after)" if after else "")
            )
        if key not in TIMED and rows == total - 1:
            raise Unfit(
                f"{key}: one row less than image has, {value.shape}, so it is not clear how it would be cut: give it "
                f"{total} rows or, where it is of no step, an axis in front"
            )


def _piece(held: list[Array], others: Mapping[str, Array], timed: set[str], begin: int, stride: int) -> dict[str, Any]:
    """An episode of the frames that are held, the first of which is number `begin` of those that are kept."""
    shapes = sorted({frame.shape for frame in held})
    if len(shapes) > 1:
        raise Unfit(f"its pictures are of different sizes or colours, {shapes[0]} and {shapes[1]}")
    rows = slice(begin * stride, (begin + len(held)) * stride, stride)
    cut = {key: value[rows] if key in timed else value for key, value in others.items()}
    return {"image": np.stack(held), **cut}


def check_unpacked(size: int) -> None:
    """Raises `Unfit` where the arrays of a recording take more bytes than `LARGEST`, before they are read."""
    if size > LARGEST:
        raise Unfit(f"its arrays take {size / 2**30:.3g} GiB unpacked: cut it into several shorter recordings")


def _npz(file: Path) -> dict[str, Array]:
    with zipfile.ZipFile(file) as archive:
        check_unpacked(sum(entry.file_size for entry in archive.infolist()))
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


def picture(image: Any) -> Array:
    """A picture of Pillow's as (H, W, 3) or, where it is grey, (H, W). Raises `Unfit` for one of more than 8 bits."""
    if image.mode.startswith(("I", "F")):  # convert("RGB") would cut them off at 255
        raise Unfit(
            f"a picture has more than 8 bits for each pixel (Pillow's mode {image.mode}): scale its values to 0..255 "
            "and save it with 8"
        )
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def _pictures(folder: Path) -> Iterator[Array]:
    from PIL import Image

    for path in sorted(folder.iterdir(), key=in_order):
        if path.suffix.lower() in PICTURES:
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                yield picture(image)


def _gif(file: Path) -> Iterator[Array]:
    from PIL import Image, ImageSequence

    with Image.open(file, formats=("GIF",)) as image:
        for frame in ImageSequence.Iterator(image):
            yield np.asarray(frame.convert("RGB"))


def video_frames(
    file: Path,
    form: Format = "rgb24",
    *,
    begin: float = 0.0,
    fps: float | None = None,
    told: Callable[[int, int], None] = lambda there, promised: None,
) -> Iterator[Array]:
    """Frames of a video, (H, W, 3) or, as `gray`, (H, W); from `begin` seconds on, of so many frames in a second.

    told: at the end, how many frames there are and how many the video's own table promises, where these are more.
    """
    import av

    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        earliest, packets = -np.inf, 0
        if begin and fps is not None and stream.time_base is not None:
            container.seek(int(begin / stream.time_base), stream=stream)  # to the key frame before
            earliest = begin - 0.5 / fps
        for packet in container.demux(stream):
            packets += packet.size > 0
            for frame in packet.decode():
                if frame.time is None or frame.time > earliest:
                    yield frame.to_ndarray(format=form)
        if packets < stream.frames:
            told(packets, stream.frames)
