"""What is not finite before a reset leaves no trace after it: every recurrence, in PyTorch and in Triton."""

import pytest
import torch

from wmkit_kernels import (
    diagonal_readout,
    diagonal_scan,
    dplr_prepared_scan,
    dplr_scan,
    prepare_readout,
    prepare_scan,
)

# NumPy, which Triton's interpreter computes with, warns of infinity minus infinity.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

NAN, INF = float("nan"), float("inf")
# Triton's interpreter is slow, and a kernel that keeps infinity out, whose products with zero are NaN, keeps out NaN.
KINDS = [
    pytest.param(backend, value, marks=pytest.mark.long if (backend, value) == ("triton", NAN) else ())
    for backend in ("torch", "triton")
    for value in (NAN, INF)
]
LENGTH, RESET = 70, 37


@pytest.fixture
def resets():
    mask = torch.zeros(2, LENGTH, dtype=torch.bool)
    mask[0, RESET] = mask[1, 0] = True
    return mask


def poisoned(u, state, value):
    """Row 0 has it in an input, row 1 in the state that comes in."""
    u, state = u.clone(), state.clone()
    u[0, RESET - 3, 0], state[1] = value, value
    return u, state


def assert_no_trace(found, clean):
    torch.testing.assert_close(found[0, RESET:], clean[0, RESET:])
    torch.testing.assert_close(found[1], clean[1])
    assert not found[0, RESET - 1, 0].isfinite().all(), "what may see it must feel it"


@pytest.mark.parametrize(("backend", "value"), KINDS)
@pytest.mark.parametrize("prepared", [False, True])
def test_a_dplr_scan_forgets_it(system, single, resets, prepared, backend, value):
    tensors = single(system(channels=2, size=8))
    u, state, D = torch.randn(2, LENGTH, 2), torch.randn(2, 2, 4, 2), torch.zeros(2)

    def run(u, state):
        if prepared:
            return dplr_prepared_scan(prepare_scan(**tensors, D=D), u, state, resets, backend=backend)
        return dplr_scan(**tensors, u=u, state=state, is_first=resets, backend=backend)

    (clean, last), (found, after) = run(u, state), run(*poisoned(u, state, value))
    assert_no_trace(found, clean)
    torch.testing.assert_close(after, last)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_diagonal_readout_forgets_it(resets, value):
    a, b, c = 0.9 * torch.exp(1j * torch.rand(2, 4)), *torch.randn(2, 2, 4, dtype=torch.complex64)
    tables = prepare_readout(a, b, c, torch.ones(2))
    u, state = torch.randn(2, LENGTH, 2), torch.randn(2, 2, 4, 2)
    clean, last = diagonal_readout(tables, u, state, resets)
    found, after = diagonal_readout(tables, *poisoned(u, state, value), resets)
    assert_no_trace(found, clean)
    torch.testing.assert_close(after, last)


@pytest.mark.parametrize(
    ("backend", "value", "width"),
    [*(pytest.param(*kind.values, 3, marks=kind.marks) for kind in KINDS), ("torch", NAN, 2000), ("torch", INF, 2000)],
)
def test_a_diagonal_scan_forgets_it(resets, backend, value, width):
    """Narrow ones go in chunks, wide ones step by step."""
    a, u, state = torch.rand(width), torch.randn(2, LENGTH, width), torch.randn(2, width)
    clean = diagonal_scan(a, u, state, resets, backend=backend)
    found = diagonal_scan(a, *poisoned(u, state, value), resets, backend=backend)
    assert_no_trace(found, clean)
