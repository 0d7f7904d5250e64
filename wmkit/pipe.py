"""What a command's output comes to: nobody who reads it any more, as in `wmkit list | head`; letters it cannot show."""

from __future__ import annotations

import codecs
import functools
import io
import os
import select
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
STDOUT = 1
"""The number of standard output as a file."""
BROKEN_PIPE = 128 + 13
"""A shell's status of a command that SIGPIPE ends."""
PLAIN = {"±": "+-", "–": "-", "—": "-", "×": "x", "…": "...", "·": "-", "→": "->"}
"""What stands for signs in a terminal or file that has ASCII alone."""


def ends_with_reader(command: Callable[P, R]) -> Callable[P, R]:
    """`command`, whose output takes every letter, and which ends with `BROKEN_PIPE` where the reader has gone."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="wmkit.plain")
        try:
            try:
                result = command(*args, **kwargs)
            except SystemExit:  # so argparse ends after its help
                _flush()
                raise
            _flush()  # here, because what fails at the interpreter's end cannot be caught
            return result
        except BrokenPipeError:
            if not _reader_has_gone():
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # for what is left in the buffer
            raise SystemExit(BROKEN_PIPE) from None

    return run


def _flush() -> None:
    if sys.stdout is not None:  # None: the command was started without one
        sys.stdout.flush()


def _reader_has_gone() -> bool:
    """Whether it is standard output that broke, and not a pipe to another process."""
    if not hasattr(select, "poll"):  # Windows, where nothing can tell
        return True
    output = select.poll()
    output.register(STDOUT, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in output.poll(0))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Of letters that a stream's encoding lacks: their stand-ins, or their numbers as Python writes them."""
    assert isinstance(error, UnicodeEncodeError), "for streams that are written to"
    letters = error.object[error.start : error.end]
    shown = (PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in letters)
    return "".join(shown), error.end


codecs.register_error("wmkit.plain", _plain)
