"""Published sets of videos that CW-VAE and SVG were judged on, read from a copy of the user's with the published split.

Nothing is downloaded. Where no validation videos were published, some of the training videos are taken for it.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from wmkit.checks import check_choice
from wmkit.data.readers import VIDEOS, Files, in_order

EVERY = 20
"""One of so many training videos validates, where none are published for it."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the videos of a data set are, and which split each is of."""

    pattern: str
    """Of the videos below the folder, for `Path.glob`."""
    split_of: Callable[[Path, int], str | None]
    """From a video and its number within its folder, counted in order; None: it is not of this data set."""
    expected: str
    """What the folder should look like, for messages."""
    grey: bool = False


def _kth(path: Path, number: int) -> str | None:
    """Persons 1 to 20 train and 21 to 25 test, as in SVG (Denton and Fergus 2018); here person 20 validates."""
    found = re.match(r"person(\d\d)_(boxing|handclapping|handwaving|jogging|running|walking)_d\d", path.name)
    if found is None or not 1 <= (person := int(found[1])) <= 25:
        return None
    return "train" if person < 20 else "valid" if person == 20 else "test"


def _by_folder(path: Path, number: int) -> str | None:
    """Folders `train` and `test`, as CW-VAE (Saxena et al. 2021) has them; every twentieth of `train` validates."""
    if path.parent.name == "test":
        return "test"
    return ("valid" if number % EVERY == EVERY - 1 else "train") if path.parent.name == "train" else None


LAYOUTS = {
    "kth": Layout(
        "**/person*",
        _kth,
        "videos such as person01_boxing_d1_uncomp.avi, in this folder or in one for each action",
        True,
    ),
    "gqn_mazes": Layout("**/*.mp4", _by_folder, "train/*.mp4 and test/*.mp4, as in gqn_mazes.zip"),
    "minerl_navigate": Layout("**/*.mp4", _by_folder, "train/*.mp4 and test/*.mp4, as in minerl_navigate.zip"),
}


def open_layout(name: str, folder: Path) -> Files:
    """The videos of the data set `name` in a folder.

    Raises `ValueError` for an unknown name, and where training or test videos are missing.
    """
    check_choice("layout", name, LAYOUTS)
    layout = LAYOUTS[name]
    there = [
        path
        for path in folder.glob(layout.pattern)
        if path.is_file() and path.suffix.lower() in VIDEOS and not path.name.startswith(".")
    ]
    there.sort(key=lambda path: (path.parent, in_order(path)))
    found, splits = [], []
    seen: Counter[Path] = Counter()
    for path in there:
        if (split := layout.split_of(path, seen[path.parent])) is not None:
            found.append(path)
            splits.append(split)
        seen[path.parent] += 1
    if missing := [split for split in ("train", "test") if split not in splits]:
        raise ValueError(f"{folder}: no videos of {name} for {', '.join(missing)}. Expected {layout.expected}")
    return Files(folder, found, splits, layout.grey)
