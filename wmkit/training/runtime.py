"""What a run sets and asks of its process and machine: threads, precision, devices, memory, random numbers, signals.

The randomness of a step is a function of (seed, step) alone. After a signal the step is finished, a checkpoint written,
and the exit status says which signal it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from wmkit.batch import Batch
from wmkit.config import TrainConfig
from wmkit.machine import cpu_info

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGE, NEVER = 1 << 30, 2**31 - 1


def processes_of(config: TrainConfig) -> PartialState:
    """Which process of how many this is, under `torchrun` or alone."""
    with _without_launchers_settings():
        return PartialState(cpu=on_cpu(config))


def on_cpu(config: TrainConfig) -> bool:
    """Whether a run is on the CPU: asked for, or because there is nothing else, which Accelerate wants to be told."""
    return config.device == "cpu" or not torch.accelerator.is_available()


def build_accelerator(config: TrainConfig) -> Accelerator:
    """Accelerate's handle on device and processes, in the precision of `config` and as nothing else says."""
    # Accelerate keeps one state per process and refuses a second run with other settings.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    precision = resolve_precision(config.precision, processes_of(config).device)
    with _without_launchers_settings():
        return Accelerator(cpu=on_cpu(config), mixed_precision="bf16" if precision == "bf16" else "no")


LAUNCHERS = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_")
"""How the variables begin by which Accelerate's launcher speaks to its scripts: some win over what a script says."""


@contextlib.contextmanager
def _without_launchers_settings() -> Iterator[None]:
    """The environment without them: what enters a number stands in the config of the run.

    Left in place, ACCELERATE_GRADIENT_ACCUMULATION_STEPS would divide every gradient, and others would choose the
    device, compile the model, or ask for packages that are not there.
    """
    held = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith(LAUNCHERS)}
    try:
        yield
    finally:
        os.environ.update(held)


def resolve_precision(name: str, device: torch.device) -> str:
    """`fp32` or `bf16` for `train.precision`; `auto` asks the device that the run is on."""
    return name if name != "auto" else ("bf16" if has_native_bf16(device) else "fp32")


def has_native_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for bf16 products; emulating them is slower than float32.

    A CPU is asked through /proc/cpuinfo (AVX512-BF16, AMX or the Arm extension); where there is none, the answer is no.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", cpu_info()) is not None


@contextlib.contextmanager
def torch_defaults(matmul_precision: str = "highest") -> Iterator[None]:
    """PyTorch's own defaults for what decides a number without being said, restored afterwards.

    A notebook or an application may have set others for its own work: a default device or dtype, no gradients,
    inference mode, autocast, faster and coarser products. None of it enters a run.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_float32_precision(matmul_precision))
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        if device.type != "cpu":  # only then: a device that is set, also the CPU, slows every call down
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


@contextlib.contextmanager
def _float32_precision(matmul: str) -> Iterator[None]:
    """`torch.set_float32_matmul_precision(matmul)` and the usual convolutions, in whichever way they had been set."""
    backends: Any = torch.backends  # whose types do not know these
    cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn
    usual = {cudnn.conv: "tf32", cudnn.rnn: "tf32", mkldnn.conv: "ieee", mkldnn.rnn: "ieee"}
    before = {part: part.fp32_precision for part in (cuda.matmul, mkldnn.matmul, *usual)}
    try:
        named = torch.get_float32_matmul_precision()
    except RuntimeError:  # it cannot tell after `fp32_precision`, the newer way; `before` has what that set
        named = "highest"
    torch.set_float32_matmul_precision(matmul)
    for part, value in usual.items():
        if part.fp32_precision not in (value, "none"):
            part.fp32_precision = value
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(named)
        for part, value in before.items():
            if part.fp32_precision != value:
                part.fp32_precision = value


@contextlib.contextmanager
def torch_settings(config: TrainConfig) -> Iterator[None]:
    """The run's threads and matmul precision, and `torch_defaults`; restored: they belong to the whole process.

    So do Accelerate's states, restored too, and the allocator, which stays as it is set: it changes no result.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or threads)
    keep_freed_memory()
    shared = [kind._shared_state for kind in (AcceleratorState, PartialState, GradientState)]
    theirs = [dict(state) for state in shared]
    try:
        with torch_defaults(config.matmul_precision):
            yield
    finally:
        torch.set_num_threads(threads)
        if theirs[0]:  # of an Accelerator that the application had: each process has one state for all of them
            for state, kept in zip(shared, theirs, strict=True):
                state.clear()
                state.update(kept)


def keep_freed_memory() -> bool:
    """Have glibc serve blocks of up to 1 GiB from its heap and never give the heap back; False where there is no glibc.

    By default every temporary over a few MiB is mapped and unmapped anew, and the kernel clears the same pages again at
    every step: some 100,000 page faults per training step at size `small`, 15 % of its time. For the whole process,
    until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))


@contextlib.contextmanager
def memory_advice(where: str, batch: Batch) -> Iterator[None]:
    """Turn a failed allocation into a `MemoryError` that says which settings to lower."""
    try:
        yield
    except RuntimeError as error:
        # On a CPU the allocator raises a plain RuntimeError, with this in its text.
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        rows, length = batch.shape
        raise MemoryError(
            f"Out of memory in {where} with {rows} x {length} frames: lower data.batch_size or data.length."
        ) from error


class StopSignal:
    """Context: the first SIGTERM or SIGINT is remembered in `number`; a second one acts as it did before."""

    WATCHED = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python lets only the main thread set handlers; a run in another thread is stopped by its owner.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in self.WATCHED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


TRAIN, VALID = 0, 1


def step_generator(seed: int, step: int, stream: int = TRAIN) -> torch.Generator:
    """A CPU generator for one step of one stream.

    Neither the number of processes nor what ran before enters, so that a resumed run and a run on N processes (each
    draws the noise of the global batch and takes its rows) see what the uninterrupted run on one process sees.
    """
    state = np.random.SeedSequence(entropy=seed, spawn_key=(stream, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def draw_frames(length: int, share: float, generator: torch.Generator) -> torch.Tensor | None:
    """Time steps to decode, sorted: a random `share` of `length`, at least one; None for all of them."""
    if share == 1:
        return None
    return torch.randperm(length, generator=generator, device="cpu")[: max(1, round(share * length))].sort().values
