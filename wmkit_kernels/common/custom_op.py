"""Running plain PyTorch inside the body of an op that the compiler does not look into.

In such a body autograd records nothing, whatever `enable_grad` says, and under `torch.compile` a conjugate taken
lazily is lost (torch 2.13: `x.conj() * x.conj()` is x * x there). Both are settings of the calling thread, so the work
goes to a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

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
