"""DPLR systems, errors and gradients, and processes without Triton's interpreter, for the tests of the kernels."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from wmkit.backbones.ssm.hippo import legs_dplr


@pytest.fixture
def system() -> Callable[..., dict[str, Tensor]]:
    """Makes the tensors of a HiPPO-LegS system, with `channels` random C and steps dt spread over 1e-3 .. 1e-1."""

    def make(channels: int = 3, size: int = 64, dt: float | None = None) -> dict[str, Tensor]:
        Lambda, P, B = legs_dplr(size)
        C = torch.randn(channels, size // 2, dtype=torch.complex128)
        steps = torch.logspace(-3, -1, channels, dtype=torch.float64) if dt is None else None
        steps = torch.full((channels,), dt, dtype=torch.float64) if steps is None else steps
        return {"Lambda": Lambda, "P": P, "B": B, "C": C, "dt": steps}

    return make


@pytest.fixture
def single() -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """The same tensors in single precision."""
    return lambda tensors: {
        name: x.to(torch.complex64 if x.is_complex() else torch.float32) for name, x in tensors.items()
    }


@pytest.fixture
def relative_error() -> Callable[[Tensor, Tensor], float]:
    """|a - b| / |b| in L2."""
    return lambda a, b: float(((a - b).norm() / b.norm()).detach())


@pytest.fixture
def gradients() -> Callable[..., dict[str, Tensor]]:
    """Gradients, by name, of a fixed random projection of everything that `function(**tensors)` returns."""

    def of(function: Callable[..., Tensor | tuple[Tensor, ...]], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        leaves = {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}
        out = function(**leaves)
        generator = torch.Generator().manual_seed(5)
        parts = [
            (x.double() * torch.randn(x.shape, generator=generator, dtype=torch.float64)).sum()
            for x in (out if isinstance(out, tuple) else (out,))
        ]
        found = torch.autograd.grad(sum(parts[1:], parts[0]), list(leaves.values()))
        return dict(zip(leaves, found, strict=True))

    return of


@pytest.fixture
def close_to_definition(single, gradients) -> Callable[..., None]:
    """Compares every output and each gradient, by name, of an op in single precision with its definition in double.

    `definition(dtype, **tensors)` is called with complex128 and with complex64: allowed is twice its own error in
    single precision, plus a floor relative to the norm, one for outputs and one for gradients. What comes in is rounded
    to single precision first, so that all three see the same numbers.
    """

    def check(op, definition, tensors, floor, gradient_floor):
        def wide(dtype):
            return lambda **xs: definition(dtype, **xs)

        lowered = single(tensors)
        double = {name: x.to(tensors[name].dtype) for name, x in lowered.items()}
        double = {n: x.to(torch.complex128 if x.is_complex() else torch.float64) for n, x in double.items()}
        runs = (op, lowered), (wide(torch.complex64), lowered), (wide(torch.complex128), double)
        outputs = (run(**xs) for run, xs in runs)
        outputs = ((x,) if isinstance(x, Tensor) else x for x in outputs)
        named = [{f"output {i}": x for i, x in enumerate(out)} for out in outputs]
        for found, limit in ((named, floor), ([gradients(run, xs) for run, xs in runs], gradient_floor)):
            for name, exact in found[2].items():
                ours, rounded = found[0][name], found[1][name]
                assert not torch.finfo(ours.dtype).eps < 1e-10, f"{name} is not in single precision"
                assert (ours - exact).norm() <= 2 * (rounded - exact).norm() + limit * exact.norm(), name

    return check


@pytest.fixture(scope="session")
def without_interpreter() -> Callable[..., str]:
    """Runs `python *arguments` in a process that compiles Triton kernels, and returns what it prints."""

    def run(*arguments: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory from `torch.empty` and its kin holds NaN, so that what a kernel forgets to write shows."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)
