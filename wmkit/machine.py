"""What a run ran on, in words: a speed without its machine says nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")


def processor() -> str:
    """`Intel(R) Xeon(R) Processor, 2 cores`."""
    return f"{processor_name()}, {os.cpu_count()} cores"


def processor_name() -> str:
    """The processor's name, as far as the system tells it."""
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def graphics() -> list[str]:
    """Names of the GPUs that PyTorch sees."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
