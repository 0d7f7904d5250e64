"""Weights that others published: which files, where they are looked for, and that nothing else is loaded for them.

Nothing is ever downloaded. A file counts when its size and its SHA-256 are those of the registered one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch

from wmkit.checks import closest
from wmkit.files import user_path

VARIABLE = "WMKIT_WEIGHTS"
"""Environment variable: the folder with files of weights, under the names that they were published by."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """A published file."""

    name: str
    """By which code asks for it."""
    file: str
    """Its name as published."""
    size: int
    """Bytes."""
    sha256: str
    """64 hexadecimal digits. Those of wmkit's own entries are as several public projects state them."""
    published: str
    """Where a user gets it."""
    brought_by: tuple[tuple[str, str], ...] = ()
    """Packages that have the file, and where it is in their folder."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.name}: sha256: expected 64 digits of 0-9 and a-f, got {self.sha256!r}")
        if self.size < 1 or Path(self.file).name != self.file:
            raise ValueError(
                f"{self.name}: expected a size of at least 1 byte and a file name without folders, got {self.size} and "
                f"{self.file!r}"
            )

    @property
    def text(self) -> str:
        """One line: what to get, and from where."""
        return f"{self.file} ({self.size:,} bytes, SHA-256 {self.sha256}), published at {self.published}"


def _heads(network: str, size: int, sha256: str) -> Weights:
    places = ("lpips", f"weights/v0.1/{network}.pth"), ("torchmetrics", f"functional/image/lpips_models/{network}.pth")
    return Weights(
        f"lpips_{network}",
        f"{network}.pth",
        size,
        sha256,
        "https://github.com/richzhang/PerceptualSimilarity (also: pip install torchmetrics)",
        places,
    )


_known = {
    weights.name: weights
    for weights in (
        Weights(
            "alexnet",
            "alexnet-owt-7be5be79.pth",
            244_408_911,
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        ),
        Weights(
            "vgg16",
            "vgg16-397923af.pth",
            553_433_881,
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            "https://download.pytorch.org/models/vgg16-397923af.pth",
        ),
        Weights(
            "squeezenet1_1",
            "squeezenet1_1-b8a52dc0.pth",
            4_958_839,
            "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        ),
        _heads("alex", 6009, "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
        _heads("vgg", 7289, "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
        _heads("squeeze", 10811, "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
        Weights(
            "i3d",
            "i3d_torchscript.pt",
            51_235_320,
            "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
            "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt (of https://github.com/universome/fvd-comparison)",
        ),
    )
}


def register_weights(weights: Weights) -> None:
    """Make a file known by its name, size and hash. Raises `ValueError` where another file has the name."""
    if _known.get(weights.name, weights) != weights:
        raise ValueError(f"Weights {weights.name!r} are already registered as {_known[weights.name].text}")
    _known[weights.name] = weights


def all_weights() -> dict[str, Weights]:
    """Every registered file by name."""
    return dict(_known)


def find_weights(name: str) -> Path | None:
    """Where the file of that name is, its size and hash not yet looked at; None: nowhere.

    Looked for in the folder `WMKIT_WEIGHTS`, in torch.hub's folder of checkpoints, and in packages that bring it.
    Raises `ValueError` for a name that is not registered and for a `WMKIT_WEIGHTS` that is no folder.
    """
    weights = _registered(name)
    folders = [Path(torch.hub.get_dir()) / "checkpoints"]
    if named := os.environ.get(VARIABLE):
        folder = Path(user_path(named))
        if not folder.is_dir():
            raise ValueError(f"{VARIABLE}: expected a folder with files of weights, got {named!r}, which is none")
        folders.insert(0, folder)
    places = [folder / weights.file for folder in folders]
    for package, file in weights.brought_by:
        if (spec := importlib.util.find_spec(package)) is not None and spec.origin is not None:
            places.append(Path(spec.origin).parent / file)
    return next((place for place in places if place.is_file()), None)


def missing_weights(*names: str) -> str:
    """A sentence that says which of the files are nowhere, how to get each and where to put it; empty: all are here."""
    missing = [_registered(name).text for name in names if find_weights(name) is None]
    if not missing:
        return ""
    them = "them" if missing[1:] else "it"
    return (
        f"Weights are missing, and wmkit downloads nothing: {'; '.join(missing)}. Put {them} into a folder and name "
        f"that in {VARIABLE}"
    )


@contextlib.contextmanager
def open_weights(name: str, path: str | Path | None = None) -> Iterator[BinaryIO]:
    """The registered file `name`, open at its beginning, once its size and hash are right.

    What is verified is the open file: another one that takes its name before it is loaded is not loaded. Who may write
    into the file itself is not kept from changing it meanwhile. path: the file, or a folder that has it; None: where
    `find_weights` finds it. Raises `ValueError` where it is not, and for one of another size or hash.
    """
    weights = _registered(name)
    if path is None:
        place = find_weights(name)
        if place is None:
            raise ValueError(missing_weights(name))
    else:
        place = Path(user_path(str(path)))
        place = place / weights.file if place.is_dir() else place
        if not place.is_file():
            raise ValueError(f"{place}: no such file. Expected {weights.text}")
    with place.open("rb") as file:
        if (size := os.fstat(file.fileno()).st_size) != weights.size:
            raise ValueError(f"{place}: {size:,} bytes, so it is another file or cut off. Expected {weights.text}")
        if (found := hashlib.file_digest(file, "sha256").hexdigest()) != weights.sha256:
            raise ValueError(
                f"{place}: its SHA-256 is {found}, so it is another file or damaged; nothing of it was loaded. "
                f"Expected {weights.text}"
            )
        file.seek(0)
        yield file


def _registered(name: str) -> Weights:
    if name not in _known:
        raise ValueError(
            f"Unknown weights {name!r}.{closest(name, _known)} Registered: {', '.join(sorted(_known))}. Others: "
            "wmkit.weights.register_weights(Weights(name, file, size, sha256, published))"
        )
    return _known[name]
