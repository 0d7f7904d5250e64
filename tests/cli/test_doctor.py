"""`wmkit doctor`: versions, the machine, and the worlds that are installed."""

import pytest

from wmkit.cli import doctor
from wmkit.cli.__main__ import main


def test_doctor_names_versions_backbones_and_worlds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "list_worlds", list)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for word in ("python", "torch", "triton", "GPUs", "threads", "transformer_xl"):
        assert word in printed


def test_doctor_reports_a_world_that_does_not_load(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"no wheel for {name}")

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "list_worlds", lambda: ["moon"])
    monkeypatch.setattr(doctor, "find_world", fail)
    assert main(["doctor"]) == 1
    assert "does not load: ImportError: no wheel for moon" in capsys.readouterr().out


def test_the_installed_worlds_load(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["doctor"]) == 0
    assert "ray_maze_9x9, image (3, 64, 64), 6 actions" in capsys.readouterr().out


def test_a_version_that_is_not_there_is_said_so() -> None:
    assert doctor.version("wmkit-no-such-package") == "not installed"
