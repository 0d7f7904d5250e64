"""`dplr_kernel` in Triton, by Triton's interpreter, against the dense definition.

Allowed: twice the error of the same definition in single precision, plus FLOOR (outputs) or GRADIENT_FLOOR.
"""

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wmkit_kernels import dplr_kernel, reference
from wmkit_kernels.dplr_kernel import why_not_triton

FLOOR, GRADIENT_FLOOR = 1e-5, 2e-5


@pytest.fixture
def rounded_system(system, single):
    """Systems whose numbers are exact in single precision, in double precision."""

    def make(**given):
        tensors = single(system(**given))
        return {name: x.to(torch.complex128 if x.is_complex() else torch.float64) for name, x in tensors.items()}

    return make


@pytest.fixture
def compare(close_to_definition):
    """Compares output and each gradient, by name, with the dense definition."""

    def check(tensors, length):
        close_to_definition(
            lambda **xs: dplr_kernel(**xs, length=length, backend="triton"),
            lambda dtype, **xs: reference.dplr_kernel(**xs, length=length, dtype=dtype),
            tensors, FLOOR, GRADIENT_FLOOR,
        )  # fmt: skip

    return check


@pytest.mark.parametrize(("length", "size"), [(1, 16), (7, 64), (63, 16), (64, 64)])
def test_output_and_each_gradient_equal_the_dense_definition(rounded_system, compare, length, size):
    compare(rounded_system(channels=2, size=size), length)


@pytest.mark.parametrize("dt", [1e-4, 1.0])
def test_steps_from_very_short_to_very_long(rounded_system, compare, dt):
    compare(rounded_system(channels=1, dt=dt), 20)


def test_slow_decay_where_every_power_is_close_to_one(rounded_system, compare):
    tensors = rounded_system(channels=2, size=8, dt=0.01)
    tensors["Lambda"] = torch.complex(torch.full((4,), -(2.0**-10)), torch.arange(4.0)).to(torch.complex128)
    tensors["P"] = tensors["P"] * 2**-8
    compare(tensors, 65)


def test_without_a_low_rank_part(rounded_system, single, compare, relative_error):
    tensors = rounded_system(channels=2, size=6)
    tensors["P"] = torch.zeros_like(tensors["P"])
    ours = dplr_kernel(**single(tensors), length=17, backend="triton")
    assert relative_error(ours, reference.dplr_kernel(**tensors, length=17)) <= FLOOR


@settings(max_examples=3, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    channels=st.integers(1, 2),
    pairs=st.integers(1, 20),
    length=st.integers(1, 24),
    lead=st.sampled_from([(), (2,), (1, 2)]),
)
def test_any_shape(rounded_system, compare, channels, pairs, length, lead):
    tensors = rounded_system(channels=channels, size=2 * pairs)
    tensors["B"] = torch.randn(*lead, pairs).to(torch.complex64).to(torch.complex128)
    compare(tensors, length)


def test_strided_inputs_and_poisoned_memory(system, single, gradients, relative_error, poisoned):
    tensors = single(system(channels=2, size=10))
    strided = {name: torch.stack([x, x], dim=-1)[..., 0] for name, x in tensors.items()}

    def triton(**xs):
        return dplr_kernel(**xs, length=21, backend="triton")

    assert torch.equal(triton(**strided), triton(**tensors))
    found, expected = gradients(triton, strided), gradients(triton, tensors)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(x.isfinite().all() for x in found.values())


@pytest.mark.parametrize("dt", [0.0, 1e-12, 1e6])
def test_extreme_steps_give_finite_kernels_and_gradients(system, single, gradients, dt):
    tensors = single(system(channels=1, dt=dt))

    def triton(**xs):
        return dplr_kernel(**xs, length=9, backend="triton")

    assert triton(**tensors).isfinite().all()
    assert all(x.isfinite().all() for x in gradients(triton, tensors).values())


def test_memory_is_a_few_times_the_kernel_and_grows_with_the_length_only(monkeypatch):
    """Every tensor that forward and backward make, together: the programs themselves allocate nothing."""
    from wmkit_kernels.dplr_kernel import triton_impl

    for name in ("dplr_kernel_forward", "dplr_kernel_backward"):
        monkeypatch.setattr(triton_impl, name, {(512,): lambda *_, **__: None})
    taken = {length: _allocated_mb(triton_impl, length, 512, 32) for length in (1024, 2048, 4096)}
    assert taken[1024] <= 32
    assert taken[4096] - taken[2048] == pytest.approx(2 * (taken[2048] - taken[1024]), rel=0.01)


def _allocated_mb(triton_impl, length, channels, pairs):
    Lambda, P, B, C = (torch.randn(*lead, pairs, 2) for lead in ((), (), (1,), (channels,)))
    with Allocations() as counted:
        k, corrected = triton_impl.forward(Lambda, P, B, C, torch.rand(channels), length)
        triton_impl.backward(Lambda, P, B, torch.rand(channels), corrected, torch.ones_like(k))
    return counted.megabytes


class Allocations(TorchDispatchMode):
    """Counts the bytes of every storage that did not exist before."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor):
                self.seen[x.untyped_storage()._cdata] = x.untyped_storage()  # held, so that no address comes twice
        return out

    @property
    def megabytes(self):
        return sum(storage.nbytes() for storage in self.seen.values()) / 1e6


def test_triton_refuses_with_the_reason_what_it_cannot_do(system, single):
    tensors = system(channels=1, size=8)
    with pytest.raises(ValueError, match="single precision"):
        dplr_kernel(**tensors, length=4, backend="triton")
    wide = single(system(channels=1, size=160))
    assert "80 conjugate pairs" in (why_not_triton(**wide) or "")
    with pytest.raises(ValueError, match="80 conjugate pairs"):
        dplr_kernel(**wide, length=4, backend="triton")
    assert dplr_kernel(**wide, length=4).isfinite().all()
