"""Small things about files: JSON replaced in one move, and bringing files to the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def replace_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file; whoever reads it sees the old one or the new one, whole."""
    new = file.with_name(file.name + ".new")
    new.write_text(json.dumps(content))
    sync([new])  # before the rename: a name must not reach the disk ahead of its bytes
    os.replace(new, file)


def sync(paths: Iterable[Path]) -> None:
    """Bring files, or folders' entries, to the disk; side by side, which lets the file system do it in few turns."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_sync, paths))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
