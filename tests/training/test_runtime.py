"""What a run asks of its machine: precision, memory, and its torch settings back."""

import ctypes
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wmkit.config import TrainConfig
from wmkit.training import runtime
from wmkit.training.runtime import keep_freed_memory, processes_of, resolve_precision, torch_settings

CPU = torch.device("cpu")
COUNT = """
import ctypes, resource

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: where everyone gets huge pages, faults are few anyway
import torch
from wmkit.training.runtime import keep_freed_memory

def page_faults():
    for _ in range(3):
        torch.ones(10_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = page_faults()
assert keep_freed_memory()
print(default, page_faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_large_temporaries_cause_no_page_faults_after_the_first() -> None:
    pages = 10 * 10_000_000 * 4 // resource.getpagesize()
    default, kept = map(
        int, subprocess.run([sys.executable, "-c", COUNT], capture_output=True, check=True).stdout.split()
    )
    assert kept < pages // 20 < default


def test_without_glibc_it_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_the_process_gets_its_torch_settings_back() -> None:
    before = (torch.get_num_threads(), torch.get_float32_matmul_precision())
    with torch_settings(TrainConfig(threads=before[0] + 1, matmul_precision="medium")):
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (before[0] + 1, "medium")
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


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
    monkeypatch.setattr(runtime, "CPU_INFO", info)
    assert resolve_precision("auto", CPU) == expected


def test_auto_is_float32_where_nobody_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "CPU_INFO", tmp_path / "absent")
    assert resolve_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_precision_that_is_named_is_taken(name: str) -> None:
    assert resolve_precision(name, CPU) == name


@pytest.mark.reported(
    "friction",
    "",
    "`torchrun --nproc-per-node 2` on a machine without a GPU, `train.device=auto`",
    "the two share the batch; each took itself for the only one and the second was refused the run folder",
)
@pytest.mark.parametrize(
    ("device", "accelerator", "expected"), [("auto", False, True), ("auto", True, False), ("cpu", True, True)]
)
def test_processes_find_each_other_on_the_cpu_where_there_is_nothing_else(
    device: str, accelerator: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    told: list[bool] = []
    monkeypatch.setattr(runtime, "PartialState", lambda cpu: told.append(cpu))
    processes_of(TrainConfig(device=device))
    assert told == [expected]
