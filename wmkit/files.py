"""Files and folders: written whole, so that a reader sees the old contents or the new; strict JSON; locks; names."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

LONGEST_NAME = 160
"""Bytes of a name that `file_name` makes: file systems take 255, and files beside it have longer ones."""
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a file system without locks answers: NFS without its lock daemon, some of FUSE and of clusters."""


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
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows syncs what may be written
    except PermissionError:
        if folder and os.name == "nt":  # which opens no folders, and keeps their entries without being asked
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        # CIFS and some of FUSE cannot sync a folder; there is nothing more to do for its entries.
        if not (folder and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)):
            raise
    finally:
        os.close(descriptor)


def hold_lock(path: Path) -> BaseFileLock:
    """The lock of the file `path`, held until `release` or until this process ends, however that comes.

    Where the file system has no locks, a file beside `path` stands for one, and a warning says so: it is left behind
    when its process is killed. Raises `filelock.Timeout` while another process holds it.
    """
    lock: BaseFileLock = FileLock(path, blocking=False, thread_local=False)  # any thread may release it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # filelock's own, before it does the same as below
            lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        lock = SoftFileLock(path.with_name(f"{path.name}.held"), blocking=False, thread_local=False)
        lock.acquire()
    if isinstance(lock, SoftFileLock):
        warnings.warn(
            f"{path.parent}: this file system has no locks. {lock.lock_file} keeps other processes out as long as it "
            "exists; delete it if a process that was killed has left it behind",
            stacklevel=3,
        )
    return lock


PathText = TypeVar("PathText", str, None, str | None)


def user_path(text: PathText) -> PathText:
    """`text` with the home folder in place of a leading `~`, which no shell expands within quotes or after `=`.

    None stays None. Raises `ValueError` where there is no such home folder.
    """
    if text is None or not text.startswith("~"):
        return text
    path = os.path.expanduser(text)
    if path == text:
        raise ValueError(
            f"{text}: there is no home folder {text.partition('/')[0]}. Write the whole path, or ./ before a name that "
            "begins with ~"
        )
    return path


def user_folder(path: str | Path) -> Path:
    """The path that a user of the library gave, `~` as in `user_path`; raises `ValueError` for an empty one."""
    if not str(path).strip():
        raise ValueError("expected the path of a folder, got nothing")
    return Path(user_path(str(path)))


def file_name(label: str) -> str:
    """`label` as the name of a file: as it is, if it can be one everywhere; else what of it can, and a digest."""
    name = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f]', "_", label).rstrip(". ")
    if name == label and name and len(os.fsencode(name)) <= LONGEST_NAME:
        return label
    digest = hashlib.sha256(label.encode("utf-8", "surrogateescape")).hexdigest()[:10]
    kept = os.fsencode(name)[: LONGEST_NAME - len(digest) - 1].decode("utf-8", "ignore")
    return f"{kept}-{digest}"
