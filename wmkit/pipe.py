"""A command whose output nobody reads any more, as in `wmkit list | head`, ends without a traceback."""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
STDOUT = 1
"""The number of standard output as a file."""


def ends_with_reader(command: Callable[P, R]) -> Callable[P, R]:
    """`command`, which ends with the status of a broken pipe, 128 + 13, where the reader of its output has gone."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
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
            raise SystemExit(128 + signal.SIGPIPE) from None

    return run


def _flush() -> None:
    if sys.stdout is not None:  # None: the command was started without one
        sys.stdout.flush()


def _reader_has_gone() -> bool:
    """Whether it is standard output that broke, and not a pipe to another process."""
    output = select.poll()
    output.register(STDOUT, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in output.poll(0))
