"""The machine in words."""

import os
import platform
from pathlib import Path

import pytest

from wmkit import machine


def test_the_processor_goes_by_the_name_that_the_system_gives_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU: 3 GHz\nprocessor\t: 1\nmodel name\t: Some CPU: 3 GHz\n")
    monkeypatch.setattr(machine, "CPU_INFO", info)
    assert machine.processor() == f"Some CPU: 3 GHz, {os.cpu_count()} cores"


def test_processors_of_one_name_are_told_apart_by_family_and_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "cpuinfo"
    one = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n"
    info.write_text(f"{one}\n{one}\n")
    monkeypatch.setattr(machine, "CPU_INFO", info)
    assert machine.processor_name() == "AMD EPYC (family 25, model 17)"


@pytest.mark.reported("machines", "", "no /proc (macOS, Windows)", "the processor by its architecture")
def test_a_system_without_names_of_processors_gives_its_architecture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "absent")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert machine.processor().startswith(platform.machine())


@pytest.mark.reported(
    "machines", "", "/proc that may not be read, as in some sandboxes", "the processor by its architecture"
)
def test_a_system_that_hides_its_processors_gives_its_architecture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*arguments: object, **options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert machine.processor_name() == (platform.processor() or platform.machine())
