"""The `wmkit` command finds its verbs, helps, and refuses what makes no sense."""

import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from wmkit import cli
from wmkit.cli.__main__ import main, verbs

GREET = """
HELP = "Say hello."


def add_arguments(parser):
    parser.add_argument("name")


def run(arguments):
    if arguments.name == "nobody":
        raise ValueError("expected a name")
    print(f"Hello, {arguments.name}")
    return 0
"""


def test_a_module_dropped_into_the_folder_is_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "greet.py").write_text(GREET)
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wmkit.cli.greet", raising=False)
    assert main(["greet", "Ada"]) == 0
    assert capsys.readouterr().out == "Hello, Ada\n"
    assert main(["greet", "nobody"]) == 2
    assert capsys.readouterr().err == "wmkit greet: expected a name\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "Say hello." in capsys.readouterr().out


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_a_page_of_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith(f"usage: wmkit {verb}")
    assert verbs()[verb] in printed


@pytest.mark.parametrize("arguments", [[], ["chekc"], ["check"], ["list", "extra"]])
def test_bad_usage_ends_with_status_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: wmkit" in capsys.readouterr().err


@pytest.mark.reported("friction", "", "`wmkit --version`", "the version")
def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"wmkit {metadata.version('wmkit')}\n"


@pytest.mark.reported("friction", "", "`python -m wmkit`, where `wmkit` is not on the path", "the same command")
def test_the_package_runs_as_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["wmkit", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("wmkit", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"wmkit {metadata.version('wmkit')}\n"


def test_the_module_runs_as_a_command_whose_help_waits_for_no_library() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "wmkit.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for verb in verbs():
        assert verb in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "numpy", "matplotlib", "hydra", "polars", "rich"}
