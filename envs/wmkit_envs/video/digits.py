"""Pictures of single digits: those of MNIST where a local copy is named, else the small ones that scikit-learn brings.

Nothing is ever downloaded. No picture is in two splits.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import importlib.util
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VARIABLE = "WMKIT_MNIST"
"""Environment variable: a folder with MNIST's idx files, or torchvision's `root`."""
INSTALL = "pip install 'wmkit[digits]'"
SIDE = 28
"""Of a picture, blank margin included; the digit fills 20."""
SKLEARN, MNIST = 0, 1
"""Where digits come from, as episodes say it (`digit_source`)."""
NAMES = ("scikit-learn's", "MNIST's")
_FOLDERS = ("", "raw", "MNIST/raw")
_FILES = {"train": "train", "valid": "train", "test": "t10k"}
_MNIST_SPLITS = {"train": slice(0, 55_000), "valid": slice(55_000, 60_000), "test": slice(0, 10_000)}
_SKLEARN_SPLITS = {"train": slice(0, 1350), "valid": slice(1350, 1500), "test": slice(1500, 1797)}


@dataclasses.dataclass(frozen=True)
class Digits:
    """The pictures of one split."""

    image: NDArray[np.uint8]
    """(N, side, side), white on black."""
    label: NDArray[np.int64]
    """(N,) 0 to 9."""
    source: int
    """`SKLEARN` or `MNIST`."""


def load_digits(folder: str | None, split: str, side: int) -> Digits:
    """The digits of a split, `side` pixels wide (28 or 14, each pixel then the mean of four).

    folder: MNIST's; None takes the environment variable `WMKIT_MNIST`, and scikit-learn's digits where it is not set.
    MNIST: 55,000 train, 5,000 valid (the last of its training file), 10,000 test. scikit-learn: 1,350, 150, 297, by
    index. Raises `ValueError` for a folder without MNIST's files, for a damaged file, and
    without scikit-learn where its digits are wanted.
    """
    return _load(_folder(folder), split, side)


def source_of(folder: str | None) -> int:
    """`MNIST` or `SKLEARN`: which digits `load_digits` gives, without loading them."""
    return SKLEARN if _folder(folder) is None else MNIST


def _folder(folder: str | None) -> str | None:
    return folder or os.environ.get(VARIABLE) or None


def missing_digits(folder: str | None) -> str:
    """The command that installs the digits of `load_digits`; empty where they are there."""
    needed = _folder(folder) is None and importlib.util.find_spec("sklearn") is None
    return INSTALL if needed else ""


@functools.lru_cache(maxsize=8)
def _load(folder: str | None, split: str, side: int) -> Digits:
    image, label = _from_sklearn() if folder is None else _from_mnist(Path(folder), _FILES[split])
    rows = (_SKLEARN_SPLITS if folder is None else _MNIST_SPLITS)[split]
    ratio = SIDE // side
    blocks = image[rows].reshape(-1, side, ratio, side, ratio).mean((2, 4))
    return Digits(np.rint(blocks).astype(np.uint8), label[rows], SKLEARN if folder is None else MNIST)


@functools.lru_cache(maxsize=1)
def _from_sklearn() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All 1,797 pictures (N, 28, 28) in 0..255: 8x8 enlarged to 20x20 (bilinear), in a margin of 4."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ValueError(
            f"Moving MNIST needs digits: {INSTALL} for scikit-learn's, or name a folder with MNIST's four idx files by "
            f"world.mnist= or {VARIABLE}"
        ) from error
    bunch = datasets.load_digits()
    places = (np.arange(20) + 0.5) * 8 / 20 - 0.5
    weight = np.stack([np.interp(places, np.arange(8), row) for row in np.eye(8)])
    large = weight.T @ (bunch.images * (255 / 16)) @ weight
    return np.pad(large, ((0, 0), (4, 4), (4, 4))), bunch.target.astype(np.int64)


def _from_mnist(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    image = _read_idx(_find(folder, f"{part}-images-idx3-ubyte"), axes=3)
    label = _read_idx(_find(folder, f"{part}-labels-idx1-ubyte"), axes=1)
    if image.shape != (len(label), SIDE, SIDE):
        raise ValueError(f"{folder}: {part} has {len(label)} labels and pictures of shape {image.shape}")
    return image, label.astype(np.int64)


def _find(folder: Path, name: str) -> Path:
    for place in (folder / below / file for below in _FOLDERS for file in (name, f"{name}.gz")):
        if place.is_file():
            return place
    raise ValueError(
        f"{folder}: no {name} or {name}.gz, here or in raw or MNIST/raw; name a folder with MNIST's four idx files "
        f"(unset {VARIABLE} to take scikit-learn's digits)"
    )


def _read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The array of an idx file: 0, 0, 8 (bytes), the number of axes, their sizes (big-endian, 4 bytes each), data."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    head = 4 + 4 * axes
    sizes = [int.from_bytes(data[i : i + 4], "big") for i in range(4, head, 4)]
    if data[:4] != bytes((0, 0, 8, axes)) or len(data) - head != np.prod(sizes):
        raise ValueError(f"{path}: not an idx file of bytes with {axes} axes, or cut off")
    return np.frombuffer(data, np.uint8, offset=head).reshape(sizes)
