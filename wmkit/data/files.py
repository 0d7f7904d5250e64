"""Small things about files: atomic JSON, and what `fsync` needs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, durably; at any moment a reader sees the old file or the new one."""
    new = file.with_name(file.name + ".new")
    new.write_text(json.dumps(content))
    sync(new)
    os.replace(new, file)
    sync(file.parent)


def sync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
