"""A command whose reader has gone ends without a traceback; nothing else about it changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wmkit.pipe import ends_with_reader

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.mark.parametrize(
    ("command", "unbuffered"),
    [
        ([str(RECIPES / "memory_maze.py"), "--help"], ""),
        ([str(RECIPES / "memory_maze.py"), "--help"], "1"),
        (["-m", "wmkit.cli", "list"], ""),
    ],
)
def test_a_command_says_nothing_when_its_reader_has_gone(command: list[str], unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    try:
        done = subprocess.run([sys.executable, *command], stdout=write, stderr=subprocess.PIPE, env=environment)
    finally:
        os.close(write)
    assert done.stderr == b""
    assert done.returncode == (1 if command[-1] == "list" else 141)  # 1 is what rich makes of it


def test_a_pipe_to_something_else_may_still_break() -> None:
    @ends_with_reader
    def command() -> None:
        raise BrokenPipeError("a worker")

    with pytest.raises(BrokenPipeError, match="a worker"):
        command()


def test_status_and_result_of_a_command_stay_what_they_are() -> None:
    @ends_with_reader
    def command(status: int) -> int:
        """Ends as told."""
        if status:
            raise SystemExit(status)
        return 7

    assert command(0) == 7
    assert command.__doc__ == "Ends as told."
    with pytest.raises(SystemExit, match="2"):
        command(2)
