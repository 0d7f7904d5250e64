"""Writing files whole: whoever reads one sees the old contents or the new ones, never half of them; and strict JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write `text` in UTF-8 in place of what `path` holds, through a temporary file of this process beside it.

    durable: bring the bytes to the disk before the file gets its name, so that it also survives a loss of power.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.write_text(text, encoding="utf-8")
    if durable:
        sync([temporary])
    os.replace(temporary, path)


def write_json(path: Path, values: Any) -> None:
    """Write `values` as indented JSON; see `to_json` and `write_text`."""
    write_text(path, to_json(values, indent=2) + "\n")


def to_json(values: Any, indent: int | None = None) -> str:
    """`values` as JSON that every program reads: NaN and infinity, for which it has no words, are null.

    Numbers of NumPy and PyTorch are taken as Python's.
    """
    return json.dumps(_plain(values), indent=indent, allow_nan=False)


def _plain(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    if getattr(values, "ndim", None) == 0:
        values = values.item()
    return None if isinstance(values, float) and not math.isfinite(values) else values


def sync(paths: Iterable[Path]) -> None:
    """Bring files, or folders' entries, to the disk; in parallel, so that the file system can write them together."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_sync, paths))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
