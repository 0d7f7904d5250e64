import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmkit_kernels import dplr_kernel, reference

LENGTHS = (1, 2, 7, 63, 64, 1000, 1024)
FLOOR = 1e-6
"""Relative error in single precision allowed beside twice the definition's own: what is inside is double."""


@pytest.mark.parametrize("dt", [1e-3, 1e-2, 1e-1])
def test_equals_the_dense_definition_in_both_precisions(system, single, relative_error, dt):
    tensors = system(channels=2, dt=dt)
    dense = reference.dplr_kernel(**tensors, length=max(LENGTHS))
    for length in LENGTHS:
        double = dplr_kernel(**tensors, length=length)
        assert double.dtype == torch.float64
        assert relative_error(double, dense[:, :length]) <= 1e-10, (length, "double")
        rounded = dplr_kernel(**single(tensors), length=length)
        assert rounded.dtype == torch.float32
        assert relative_error(rounded, dense[:, :length]) <= 6e-5, (length, "single")


def test_leading_axes_of_B_are_a_batch_of_kernels(system, relative_error):
    tensors = system()
    tensors["B"] = torch.randn(2, 3, 32, dtype=torch.complex128)
    kernels = dplr_kernel(**tensors, length=40)
    assert kernels.shape == (2, 3, 3, 40)
    assert relative_error(kernels, reference.dplr_kernel(**tensors, length=40)) <= 1e-10
    alone = dplr_kernel(**{**tensors, "B": tensors["B"][1, 2]}, length=40)
    assert relative_error(kernels[1, 2], alone) <= 1e-10


@pytest.mark.parametrize("lead", [(), (2,)])
def test_gradcheck(system, lead):
    tensors = system(channels=2, size=8, dt=0.05)
    tensors["B"] = torch.randn(*lead, 4, dtype=torch.complex128)
    leaves = [x.requires_grad_() for x in tensors.values()]
    assert torch.autograd.gradcheck(lambda *xs: dplr_kernel(*xs, 13), leaves)


def test_each_gradient_equals_that_of_the_dense_definition(system, single, gradients, relative_error):
    tensors = system(channels=3)
    dense = gradients(lambda **xs: reference.dplr_kernel(**xs, length=65), tensors)
    double = gradients(lambda **xs: dplr_kernel(**xs, length=65), tensors)
    rounded = gradients(lambda **xs: dplr_kernel(**xs, length=65), single(tensors))
    for name, expected in dense.items():
        assert relative_error(double[name], expected) <= 1e-8, name
        assert relative_error(rounded[name], expected) <= 1e-4, name


@pytest.fixture
def compare(close_to_definition):
    """Compares output and each gradient, by name, with the dense definition in single precision."""

    def check(tensors, length):
        close_to_definition(
            lambda **xs: dplr_kernel(**xs, length=length),
            lambda dtype, **xs: reference.dplr_kernel(**xs, length=length, dtype=dtype),
            tensors, FLOOR, FLOOR,
        )  # fmt: skip

    return check


@pytest.mark.parametrize("length", [1, 7, 63, 64, 1000])
def test_output_and_each_gradient_round_no_more_than_the_dense_definition(system, compare, length):
    compare(system(channels=2), length)


def test_slow_decay_where_every_power_is_close_to_one(system, compare):
    tensors = system(channels=2, size=8, dt=0.01)
    tensors["Lambda"] = torch.complex(torch.full((4,), -(2.0**-10)), torch.arange(4.0)).to(torch.complex128)
    tensors["P"] = tensors["P"] * 2**-8
    compare(tensors, 130)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(channels=st.integers(1, 3), pairs=st.integers(1, 20), length=st.integers(1, 70), lead=st.integers(0, 2))
def test_any_shape_equals_the_dense_definition(system, relative_error, channels, pairs, length, lead):
    tensors = system(channels=channels, size=2 * pairs)
    tensors["B"] = torch.randn(*[2] * lead, pairs, dtype=torch.complex128)
    found = dplr_kernel(**tensors, length=length)
    assert relative_error(found, reference.dplr_kernel(**tensors, length=length)) <= 1e-9


def test_length_is_only_how_far_the_kernel_is_computed(system, relative_error):
    tensors = system()
    longer = dplr_kernel(**tensors, length=129)
    assert relative_error(dplr_kernel(**tensors, length=50), longer[:, :50]) <= 1e-12


def test_inputs_need_not_be_contiguous_and_are_left_alone(system, gradients, relative_error, poisoned):
    tensors = system()
    strided = {name: torch.stack([x, x], dim=-1)[..., 0] for name, x in tensors.items()}
    before = {name: x.clone() for name, x in strided.items()}
    out = dplr_kernel(**strided, length=20)
    assert relative_error(out, dplr_kernel(**tensors, length=20)) <= 1e-14
    assert all(torch.equal(x, before[name]) for name, x in strided.items())
    found, expected = (gradients(lambda **xs: dplr_kernel(**xs, length=20), xs) for xs in (strided, tensors))
    assert all(relative_error(found[name], expected[name]) <= 1e-12 for name in expected)


@pytest.mark.parametrize("dt", [0.0, 1e-12, 1e6])
def test_extreme_steps_give_finite_kernels_and_gradients(system, single, gradients, dt):
    tensors = single(system(dt=dt))
    assert dplr_kernel(**tensors, length=33).isfinite().all()
    found = gradients(lambda **xs: dplr_kernel(**xs, length=33), tensors)
    assert all(x.isfinite().all() for x in found.values())


def test_channels_worked_through_in_blocks_give_the_same(system, gradients, monkeypatch, relative_error):
    tensors = system(channels=7)
    whole = gradients(lambda **xs: dplr_kernel(**xs, length=30), tensors)
    monkeypatch.setattr("wmkit_kernels.common.series.WORKSPACE", 2000)
    blocks = gradients(lambda **xs: dplr_kernel(**xs, length=30), tensors)
    assert all(relative_error(blocks[name], whole[name]) <= 1e-12 for name in whole)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("P", torch.zeros(5, dtype=torch.complex128), "one shape"),
        ("dt", torch.zeros(2, 2), "dt"),
        ("dt", torch.ones(4), "C \\(H, N\\)"),
        ("B", torch.zeros(32), "complex"),
        ("B", torch.zeros(31, dtype=torch.complex128), "last axis"),
        ("C", torch.zeros(32, dtype=torch.complex128), "C \\(H, N\\)"),
        ("length", 0, "length"),
    ],
)
def test_wrong_arguments_are_named(system, name, value, message):
    with pytest.raises(ValueError, match=message):
        dplr_kernel(**{**system(), "length": 8, name: value})
