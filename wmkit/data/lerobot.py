"""Data sets in the form of LeRobot 3: tables as Parquet files, cameras as videos, many episodes in a file.

`meta/info.json` says what there is and where; `meta/episodes` has a row for each episode: its number of steps, the file
of its table, and of each camera the video and the second from which on it shows this episode.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

import numpy as np

from wmkit.data.episode import Array
from wmkit.data.own import Timing
from wmkit.data.readers import PICTURE_FORMATS, PYAV, Unfit, picture, video_frames

if TYPE_CHECKING:
    import polars as pl

INFO = "meta/info.json"
COUNTERS = ("timestamp", "frame_index", "episode_index", "index")
"""Columns that say which step a row is."""


class LeRobot:
    """The episodes of a data set, as a `wmkit.data.readers.Reader`.

    A single camera is `image`; of several, all have the names of their features, and one is to be renamed. Actions were
    chosen at images; `next.reward` is `reward`. Dots in other names become underscores, and texts are left out. Raises
    `ValueError` for another version of the form, for what is damaged or names files outside the folder, and without
    PyAV where cameras are videos.
    """

    timing: Timing | None = "after"
    splits = None
    note = ""
    advice = "get the data set anew"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.info = json.loads((folder / INFO).read_text(encoding="utf-8"))
            version = str(self.info["codebase_version"])
            kinds = {name: feature["dtype"] for name, feature in self.info["features"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / INFO}: cannot be read ({error!r}): {self.advice}") from error
        if not version.startswith("v3."):
            raise ValueError(
                f"{folder}: a data set of LeRobot's form {version}, expected v3: LeRobot's own "
                "script convert_dataset_v21_to_v30 makes it so"
            )
        self.cameras = {name: kind for name, kind in kinds.items() if kind in ("video", "image")}
        needed = ("data_path", *(("video_path", "fps") if "video" in self.cameras.values() else ()))
        if missing := [key for key in needed if key not in self.info]:
            raise ValueError(f"{folder / INFO}: no {', '.join(missing)}: {self.advice}")
        if "video" in self.cameras.values() and importlib.util.find_spec("av") is None:
            raise ValueError(f"{folder}: {PYAV}")
        files = sorted((folder / "meta" / "episodes").glob("*/*.parquet"))
        if not files:
            raise ValueError(f"{folder}: no table of episodes in meta/episodes: the copy is not complete")
        self.rows: list[dict[str, Any]] = []
        for file in files:
            try:
                self.rows += sorted(_table(file).to_dicts(), key=_number)
            except Exception as error:  # whatever polars raises
                raise ValueError(f"{file}: cannot be read ({error!r}): {self.advice}") from error
        self.rows.sort(key=_number)
        self.names = [f"episode {_number(row)}" for row in self.rows]
        self.places = [folder / name for name in self.names]
        self._open: tuple[Path, pl.DataFrame] | None = None

    def arrays(self, index: int) -> dict[str, Any]:
        """See `Reader`."""
        import polars as pl

        row = self.rows[index]
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        path = self._path("data_path", place)
        if self._open is None or self._open[0] != path:
            self._open = path, _table(path)
        table = self._open[1].filter(pl.col("episode_index") == _number(row)).sort("frame_index")
        if len(table) != row["length"]:
            raise ValueError(f"{path.name} has {len(table)} of its {row['length']} steps")
        found: dict[str, Any] = {}
        for name, column in zip(table.columns, table.iter_columns(), strict=True):
            if name not in (*COUNTERS, *self.cameras) and column.dtype != pl.String:
                values = np.array(column.to_list())
                integers = values.dtype.kind in "iu" and values.shape[1:] == (1,)
                known = "reward" if name == "next.reward" else name.replace(".", "_")
                found[known] = values.squeeze(1) if integers or (known == "reward" and values.ndim == 2) else values
        for name, kind in self.cameras.items():
            frames = self._pictures(table[name]) if kind == "image" else self._video(row, name)
            found["image" if len(self.cameras) == 1 else name] = frames
        return found

    def _path(self, key: str, place: Mapping[str, Any]) -> Path:
        """The file that an entry of `meta/info.json` names, {NAME} or {NAME:0Nd} in it being those of `place`."""
        template = str(self.info[key])
        for _, name, form, conversion in Formatter().parse(template):
            if name is not None and (name not in place or not re.fullmatch("(0[1-9]d)?", form or "") or conversion):
                raise Unfit(f"{INFO}: {key}: expected {{NAME}} or {{NAME:03d}} with names of {[*place]}: {template!r}")
        path = Path(template.format(**place))
        if path.anchor or ".." in path.parts:
            raise Unfit(f"{INFO}: {key}: {path} is not in the folder of the data set")
        return self.folder / path

    def _video(self, row: dict[str, Any], camera: str) -> Iterator[Array]:
        of = {key: row[f"videos/{camera}/{key}"] for key in ("chunk_index", "file_index", "from_timestamp")}
        begin = float(of.pop("from_timestamp"))
        path = self._path("video_path", {"video_key": camera, **of})
        number = 0
        for frame in islice(video_frames(path, begin=begin, fps=float(self.info["fps"])), row["length"]):
            number += 1
            yield frame
        if number < row["length"]:
            raise ValueError(f"{path.relative_to(self.folder)} has {number} of its {row['length']} frames")

    def _pictures(self, column: pl.Series) -> Iterator[Array]:
        from PIL import Image

        for entry in column:
            with Image.open(io.BytesIO(entry["bytes"]), formats=PICTURE_FORMATS) as image:
                yield picture(image)


def _table(file: Path) -> pl.DataFrame:
    import polars as pl  # a third of a second, which workers need not wait for

    with file.open("rb") as content:  # by their names polars takes folders for patterns
        return pl.read_parquet(content)


def _number(row: dict[str, Any]) -> int:
    return int(row["episode_index"])
