"""Which precision `auto` means on this machine: bf16 where the hardware multiplies it, else float32."""

from __future__ import annotations

import re

import torch

from wmkit.machine import CPU_INFO


def resolve_precision(name: str, device: torch.device) -> str:
    """`fp32` or `bf16` for `train.precision`; `auto` asks the device that the run is on."""
    return name if name != "auto" else ("bf16" if has_native_bf16(device) else "fp32")


def has_native_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for bf16 products; emulating them is slower than float32.

    A CPU is asked through /proc/cpuinfo (AVX512-BF16, AMX or the Arm extension); where there is none, the answer is no.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not CPU_INFO.exists():
        return False
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", CPU_INFO.read_text(encoding="utf-8")) is not None
