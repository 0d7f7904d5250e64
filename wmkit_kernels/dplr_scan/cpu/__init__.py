"""A single step of the DPLR recurrence in one pass over the state, compiled by Numba: whether it can run, and the step.

Everything that is private to PyTorch, OpenMP or LLVM stays in this folder; Numba is loaded at the first call. The
environment variable `WMKIT_NUMBA_STEP=0` turns it off: steps are then PyTorch's operations.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from wmkit_kernels.dplr_scan.cpu.openmp import why_no_openmp


def step(packed: Tensor, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`dplr_step` where `why_not` is None: u (B, H), state (B, H, N, 2) -> (y (B, H), s'). Nothing is checked.

    `packed` is that of `StepTables`.
    """
    one_pass = _compiled()[0]
    assert one_pass, "there is no compiled step: ask why_not first"
    return one_pass(packed, u, state)


def why_not(packed: Tensor, u: Tensor, state: Tensor) -> str | None:
    """Why this step cannot be one pass over the state in compiled code, or None.

    Such code sees addresses: PyTorch records nothing of it, neither for a gradient nor for a graph.
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._len_torch_dispatch_stack():
        return "operations are traced"
    tensors = packed, u, state
    if forward_ad._current_level >= 0 or (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)):
        return "a gradient is wanted"
    for x in tensors:
        if x.device.type != "cpu":
            return f"tensors on {x.device.type}"
        if x.dtype is not torch.float32:
            return f"it is written for single precision, got {x.dtype}"
        try:
            if x.is_neg() or (x.data_ptr() == 0 and x.numel()):
                return "numbers that are not in memory as they are"
        except RuntimeError:
            return "numbers without an address (vmap)"
    return why_never()


def why_never() -> str | None:
    """Why no step can be compiled in this process, or None."""
    return why_no_openmp() or _compiled()[1]


@functools.cache
def _compiled() -> tuple[Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None, str | None]:
    """The compiled pass, or None and why there is none: turned off, or no Numba that works."""
    if os.environ.get("WMKIT_NUMBA_STEP", "1") == "0":
        return None, "WMKIT_NUMBA_STEP=0 turns it off"
    try:
        from wmkit_kernels.dplr_scan.cpu.numba_impl import one_pass
    except (ImportError, RuntimeError) as error:
        return None, f"Numba cannot compile here: {error}"
    return one_pass, None
