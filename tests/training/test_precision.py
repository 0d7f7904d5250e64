"""`train.precision=auto`: bf16 where the hardware has it, float32 elsewhere."""

from pathlib import Path

import pytest
import torch

from wmkit.training import precision
from wmkit.training.precision import resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f avx512_bf16 sse", "bf16"),
        ("fpu amx_bf16", "bf16"),
        ("Features: fp asimd bf16 i8mm", "bf16"),
        ("fpu avx2 avx512f", "fp32"),
        ("notbf16 bf16x", "fp32"),
    ],
)
def test_auto_is_bf16_only_where_the_processor_multiplies_it(
    flags: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(precision, "CPU_INFO", info)
    assert resolve_precision("auto", CPU) == expected


def test_auto_is_float32_where_nobody_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "absent")
    assert resolve_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_precision_that_is_named_is_taken(name: str) -> None:
    assert resolve_precision(name, CPU) == name
