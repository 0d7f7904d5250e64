"""DPLR systems for the tests of the kernels."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from wmkit.backbones.hippo import legs_dplr


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
