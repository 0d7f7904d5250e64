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


def test_a_system_without_names_of_processors_gives_its_architecture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "absent")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert machine.processor().startswith(platform.machine())
