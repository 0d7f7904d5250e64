"""A command whose reader has gone ends without a traceback; nothing else about it changes."""

import io
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


def printed(text: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What comes out of a command that prints `text` to a stream of that encoding."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    ends_with_reader(lambda: print(text))()
    written: bytes = sys.stdout.buffer.getvalue()
    return written


@pytest.mark.reported(
    "machines",
    "",
    "a terminal or a file that has ASCII alone, or Latin 1",
    "`+-` for `±`, numbers for letters; no error after a finished run",
)
@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", r"60.2 +- 1.3 - m\xfcller \u65e5"), ("latin-1", r"60.2 ± 1.3 - müller \u65e5")]
)
def test_output_takes_letters_that_its_encoding_lacks(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert printed("60.2 ± 1.3 – müller 日", encoding, monkeypatch).decode(encoding) == shown + "\n"


@pytest.mark.reported(
    "names",
    "",
    "a folder whose name is no UTF-8, as of an old disk",
    "is written as `\\udcff`; no error after a finished run",
)
def test_output_takes_names_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed("runs/\udcff", "utf-8", monkeypatch) == rb"runs/\udcff" + b"\n"
