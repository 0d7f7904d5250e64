"""What a run asks of its machine: precision, memory, and its torch settings back."""

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from wmkit import machine
from wmkit.config import RunConfig, TrainConfig
from wmkit.dynamics.latents import CategoricalLatent, GaussianLatent
from wmkit.training import runtime
from wmkit.training.loop import Summary
from wmkit.training.runtime import (
    build_accelerator,
    draw_frames,
    keep_freed_memory,
    processes_of,
    resolve_precision,
    step_generator,
    torch_settings,
)

MakeConfig = Callable[..., RunConfig]
TrainIn = Callable[..., Summary]

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
    monkeypatch.setattr(machine, "CPU_INFO", info)
    assert resolve_precision("auto", CPU) == expected


def test_auto_is_float32_where_nobody_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "absent")
    assert resolve_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_precision_that_is_named_is_taken(name: str) -> None:
    assert resolve_precision(name, CPU) == name


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@contextlib.contextmanager
def called(change: Callable[[], object], back: Callable[[], object]) -> Iterator[None]:
    change()
    try:
        yield
    finally:
        back()


MKLDNN: Any = torch.backends.mkldnn
SETTINGS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "default device": lambda: called(
        partial(torch.set_default_device, "meta"), partial(torch.set_default_device, None)
    ),
    "with device": lambda: torch.device("meta"),
    "float64": lambda: called(
        partial(torch.set_default_dtype, torch.float64), partial(torch.set_default_dtype, torch.float32)
    ),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu"),
    "deterministic": lambda: called(
        partial(torch.use_deterministic_algorithms, True), partial(torch.use_deterministic_algorithms, False)
    ),
    "matmul precision": lambda: called(
        partial(torch.set_float32_matmul_precision, "medium"), partial(torch.set_float32_matmul_precision, "highest")
    ),
    "fp32_precision": lambda: called(
        lambda: [setattr(part, "fp32_precision", "bf16") for part in (MKLDNN.matmul, MKLDNN.conv)],
        lambda: [setattr(part, "fp32_precision", "none") for part in (MKLDNN.matmul, MKLDNN.conv)],
    ),
    "numpy's errors": lambda: np.errstate(all="raise"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": lambda: environment(ACCELERATE_GRADIENT_ACCUMULATION_STEPS="4"),
    "ACCELERATE_*": lambda: environment(
        ACCELERATE_USE_DEEPSPEED="true",
        ACCELERATE_USE_FSDP="true",
        ACCELERATE_USE_MEGATRON_LM="true",
        ACCELERATE_USE_PARALLELISM_CONFIG="true",
        ACCELERATE_MIXED_PRECISION="bf16",
        ACCELERATE_DYNAMO_BACKEND="EAGER",
        ACCELERATE_TORCH_DEVICE="meta",
        ACCELERATE_USE_CPU="true",
    ),
}
"""What an application may have set for its own work before it calls `train`."""


@pytest.fixture(scope="module")
def metrics(make_config: MakeConfig, train_in: TrainIn, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    config = make_config(backbone="s4", train={"steps": 2, "log_every": 1, "eval_every": 2})

    def of_a_run() -> str:
        path = tmp_path_factory.mktemp("runs") / "run"
        train_in(config, path)
        return (path / "metrics.jsonl").read_text()

    return of_a_run


@pytest.fixture(scope="module")
def expected(metrics: Callable[[], str]) -> str:
    return metrics()


@pytest.mark.reported(
    "settings",
    "huggingface/accelerate#3571, huggingface/accelerate#1011",
    "`ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4`",
    "the same gradients and metrics as without",
)
@pytest.mark.reported(
    "settings",
    "",
    "`ACCELERATE_USE_DEEPSPEED`, `_FSDP`, `_MEGATRON_LM`, `_TORCH_DEVICE`, `_DYNAMO_BACKEND`",
    "the same metrics",
)
@pytest.mark.reported(
    "settings",
    "pytorch/pytorch#58545, huggingface/accelerate#1627",
    "`torch.set_default_device`, `with torch.device(...)` around `train`",
    "the same metrics: noise, weights and batches are made on the CPU as always",
)
@pytest.mark.reported("settings", "", "default dtype float64 around `train`", "the same metrics, in float32")
@pytest.mark.reported("settings", "", "`no_grad`, `inference_mode` or `autocast` around `train`", "the same metrics")
@pytest.mark.reported(
    "settings",
    "",
    "coarser products by `set_float32_matmul_precision` or `fp32_precision`",
    "the same metrics; `train.matmul_precision` alone counts",
)
@pytest.mark.reported(
    "settings", "", "`np.seterr(all='raise')`, deterministic algorithms", "the same metrics, no error"
)
@pytest.mark.parametrize("setting", SETTINGS)
def test_what_an_application_has_set_enters_no_number(setting: str, metrics: Callable[[], str], expected: str) -> None:
    device, dtype = torch.get_default_device(), torch.get_default_dtype()
    with SETTINGS[setting]():
        found = metrics()
    assert found == expected
    assert (torch.get_default_device(), torch.get_default_dtype()) == (device, dtype)
    assert torch.is_grad_enabled()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.reported("settings", "", "what `train` turns off while it runs", "is on again afterwards")
def test_an_application_gets_its_settings_back() -> None:
    with torch.device("meta"), torch.no_grad(), torch.autocast("cpu"), environment(ACCELERATE_USE_FSDP="true"):
        torch.set_default_dtype(torch.float64)
        MKLDNN.matmul.fp32_precision = "bf16"
        try:
            with torch_settings(TrainConfig(matmul_precision="high")):
                assert torch.zeros(1).device.type == "cpu"
                assert torch.zeros(1).dtype is torch.float32
                assert torch.get_float32_matmul_precision() == "high"
                assert torch.is_grad_enabled()
                assert not torch.is_autocast_enabled("cpu")
                build_accelerator(TrainConfig(device="cpu"))
            assert MKLDNN.matmul.fp32_precision == "bf16"
            assert torch.zeros(1).device.type == "meta"
            assert torch.get_default_dtype() is torch.float64
            assert torch.is_autocast_enabled("cpu")
            assert not torch.is_grad_enabled()
            assert os.environ["ACCELERATE_USE_FSDP"] == "true"
        finally:
            torch.set_default_dtype(torch.float32)
            MKLDNN.matmul.fp32_precision = "none"
            torch.set_float32_matmul_precision("highest")


@pytest.mark.reported(
    "settings",
    "huggingface/accelerate#1627",
    "an `Accelerator` of the application, with accumulation",
    "a run has one of its own, without; theirs is as it was afterwards",
)
def test_an_accelerator_that_was_there_before_changes_none_of_a_run_and_stays_what_it_was() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    theirs = Accelerator(cpu=True, gradient_accumulation_steps=4, mixed_precision="bf16")
    try:
        with torch_settings(TrainConfig(device="cpu")):
            ours = build_accelerator(TrainConfig(device="cpu"))
            assert (ours.gradient_accumulation_steps, ours.mixed_precision) == (1, "no")
        assert (theirs.gradient_accumulation_steps, theirs.mixed_precision) == (4, "bf16")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


@pytest.mark.reported(
    "settings",
    "pytorch/pytorch#58545",
    "`draw_noise` under another default device",
    "drawn on the CPU, the same numbers",
)
def test_noise_is_drawn_on_the_cpu_under_any_default_device() -> None:
    for latent in (CategoricalLatent(3, 4), GaussianLatent(5)):
        expected = latent.draw_noise((2, 3), step_generator(0, 0))
        with torch.device("meta"):
            assert torch.equal(latent.draw_noise((2, 3), step_generator(0, 0)), expected)
            assert draw_frames(9, 0.5, step_generator(0, 0)) is not None


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
