"""Which implementation of an op runs, plain PyTorch or Triton, and why not Triton; how PyTorch runs inside an op.

In the body of an op that the compiler does not look into, autograd records nothing, whatever `enable_grad` says, and
under `torch.compile` a conjugate taken lazily is lost (torch 2.13: `x.conj() * x.conj()` is x * x there). Both are
settings of the calling thread, so the work goes to a thread of its own.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

BACKENDS = ("auto", "torch", "triton")
"""`auto` takes Triton on a GPU where it can run; `triton` takes it or raises."""

INSTALLED = importlib.util.find_spec("triton") is not None

MOST_PAIRS = 64
"""Conjugate pairs of a channel's state: the largest that the kernels are compiled and checked for."""


def use_triton(backend: str, why_not: str | None) -> bool:
    """Whether Triton is to run, where `why_not` says why it cannot (None: it can).

    The interpreter is a thousand times slower than PyTorch, so it runs only where Triton is asked for by name.
    Raises `ValueError` for an unknown backend, and with the reason where Triton was asked for and cannot run.
    """
    if backend not in BACKENDS:
        raise ValueError(f"expected backend to be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "triton" and why_not is not None:
        raise ValueError(f"backend='triton' cannot run here: {why_not}")
    return why_not is None and (backend == "triton" or (backend == "auto" and not interpreted()))


def why_not_here(*tensors: Tensor | None) -> str | None:
    """Why Triton kernels in single precision cannot take these tensors, or None: what all ops ask."""
    given = [x for x in tensors if x is not None]
    device = given[0].device
    if any(x.device != device for x in given):
        return f"tensors on different devices: {sorted({str(x.device) for x in given})}"
    if any((x.dtype.is_floating_point and x.dtype.itemsize == 8) or x.dtype.itemsize == 16 for x in given):
        return "the kernels are written for single precision, got double"
    if not INSTALLED:
        return "triton is not installed"
    if device.type != "cuda" and not interpreted():
        return f"tensors on {device.type}: Triton needs a GPU (or TRITON_INTERPRET=1, which is slow, for tests)"
    return None


def why_not_pairs(count: int) -> str | None:
    """Why kernels that hold a channel's state in registers cannot take `count` conjugate pairs, or None."""
    return None if count <= MOST_PAIRS else f"{count} conjugate pairs: the kernels are made for up to {MOST_PAIRS}"


def interpreted() -> bool:
    """Does this process run Triton kernels by Triton's interpreter, on any device?"""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


Result = TypeVar("Result")


def run_outside_autograd(device: torch.device, function: Callable[..., Result], *arguments: object) -> Result:
    """function(*arguments), without gradients, on the caller's stream of that device."""
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    def work() -> Result:
        with torch.no_grad(), torch.cuda.stream(stream):
            return function(*arguments)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def vector_jacobian(
    function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[Tensor | None], grads: Sequence[Tensor]
) -> list[Tensor]:
    """Gradients of sum(function(*inputs) grads) in every input that is not None, by autograd."""

    def differentiate() -> list[Tensor]:
        leaves = [None if x is None else x.detach().requires_grad_() for x in inputs]
        with torch.enable_grad():
            outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        wanted = [x for x in leaves if x is not None]
        found = torch.autograd.grad(outputs, wanted, list(grads), allow_unused=True, materialize_grads=True)
        return [x.contiguous() for x in found]

    return run_outside_autograd(grads[0].device, differentiate)
