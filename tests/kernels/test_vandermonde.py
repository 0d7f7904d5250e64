"""Sums of exponentials against their definition, on the CPU and in Triton."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit_kernels import reference, vandermonde
from wmkit_kernels.vandermonde import op

FLOOR = 2e-6
"""Relative error in single precision allowed beside twice the reference's own."""


def inputs(channels=3, pairs=8, decay=0.5):
    """Those of an S4D layer: dt from 1e-3 to 1e-1, frequencies up to pi pairs."""
    dt = torch.logspace(-3, -1, channels, dtype=torch.float64).unsqueeze(-1)
    log_x = dt * torch.complex(torch.full((pairs,), -decay).double(), math.pi * torch.arange(pairs).double())
    return {"v": torch.randn(channels, pairs, dtype=torch.complex128), "log_x": log_x}


def agrees(single, double, gradients, relative_error, length, backend, floor=FLOOR):
    """Output and every gradient in single precision against the definition in double."""
    exact = reference.vandermonde(**double, length=length)
    plain, found = reference.vandermonde(**single, length=length), vandermonde(**single, length=length, backend=backend)
    assert relative_error(found, exact) <= 2 * relative_error(plain, exact) + floor
    exact = gradients(lambda **xs: reference.vandermonde(**xs, length=length), double)
    plain = gradients(lambda **xs: reference.vandermonde(**xs, length=length), single)
    found = gradients(lambda **xs: vandermonde(**xs, length=length, backend=backend), single)
    for name, expected in exact.items():
        assert found[name].dtype == single[name].dtype
        if expected.norm() == 0:
            assert not found[name].any(), name
        else:
            assert relative_error(found[name], expected) <= 2 * relative_error(plain[name], expected) + floor, name


@pytest.mark.parametrize("decay", [0.5, 1e-4], ids=["decaying", "almost on the unit circle"])
@pytest.mark.parametrize("length", [1, 7, 63, 64, 1000])
def test_single_precision_equals_the_definition(single, gradients, relative_error, length, decay):
    rounded = single(inputs(decay=decay))
    double = {name: x.to(torch.complex128) for name, x in rounded.items()}
    agrees(rounded, double, gradients, relative_error, length, "torch")


@pytest.mark.parametrize("length", [1, 7, 64, 1000])
def test_double_precision_equals_the_definition(gradients, relative_error, length):
    tensors = inputs()
    exact = reference.vandermonde(**tensors, length=length)
    assert relative_error(vandermonde(**tensors, length=length), exact) <= 1e-11
    exact = gradients(lambda **xs: reference.vandermonde(**xs, length=length), tensors)
    found = gradients(lambda **xs: vandermonde(**xs, length=length), tensors)
    assert all((found[name] - exact[name]).norm() <= 1e-11 * exact[name].norm() for name in exact)


@pytest.mark.parametrize(("length", "pairs"), [(1, 3), (7, 32), (63, 33), (65, 8)])
def test_the_interpreted_kernels_equal_the_definition(single, gradients, relative_error, poisoned, length, pairs):
    rounded = single(inputs(channels=2, pairs=pairs))
    double = {name: x.to(torch.complex128) for name, x in rounded.items()}
    agrees(rounded, double, gradients, relative_error, length, "triton")


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_log_x_in_double_precision_is_not_rounded(single, gradients, relative_error, backend):
    double = inputs(channels=2, pairs=32)
    mixed = {"v": single(double)["v"], "log_x": double["log_x"]}
    exact = reference.vandermonde(mixed["v"].to(torch.complex128), double["log_x"], 1100)
    found = vandermonde(**mixed, length=1100, backend=backend)
    assert found.dtype == torch.float32
    assert relative_error(found, exact) <= 1e-6
    found = gradients(lambda **xs: vandermonde(**xs, length=1100, backend=backend), mixed)
    exact = gradients(lambda **xs: reference.vandermonde(**xs, length=1100), mixed)
    assert found["log_x"].dtype == torch.complex128
    assert all(relative_error(found[name], exact[name]) <= 1e-6 for name in exact)


@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    pairs=st.integers(1, 40),
    length=st.integers(1, 130),
    some=st.booleans(),
)
def test_any_shape_equals_the_definition(lead, pairs, length, some):
    v = torch.randn(*lead, pairs, dtype=torch.complex128)
    log_x = torch.complex(-torch.rand(pairs), torch.randn(pairs)).to(torch.complex128)
    log_x = log_x if some else log_x.expand_as(v)
    found, exact = vandermonde(v, log_x, length), reference.vandermonde(v, log_x, length)
    assert found.shape == (*lead, length)
    assert (found - exact).norm() <= 1e-11 * exact.norm()


def test_gradcheck():
    leaves = [x.requires_grad_() for x in inputs(channels=2, pairs=3).values()]
    assert torch.autograd.gradcheck(lambda v, log_x: vandermonde(v, log_x, 13), leaves)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_inputs_need_not_be_contiguous_and_no_memory_is_left_unwritten(
    single, gradients, relative_error, poisoned, backend
):
    tensors = single(inputs())
    strided = {name: torch.stack([x, x], dim=-1)[..., 0].conj().resolve_conj().conj() for name, x in tensors.items()}
    out = vandermonde(**strided, length=37, backend=backend)
    assert relative_error(out, vandermonde(**tensors, length=37, backend=backend)) <= 1e-6
    found, expected = (
        gradients(lambda **xs: vandermonde(**xs, length=37, backend=backend), t) for t in (strided, tensors)
    )
    assert all(relative_error(found[name], expected[name]) <= 1e-6 for name in expected)


def test_channels_worked_through_in_blocks_give_the_same(gradients, monkeypatch, relative_error):
    tensors = inputs(channels=7)
    whole = gradients(lambda **xs: vandermonde(**xs, length=30), tensors)
    monkeypatch.setattr(op, "WORKSPACE", 100)
    blocks = gradients(lambda **xs: vandermonde(**xs, length=30), tensors)
    assert all(relative_error(blocks[name], whole[name]) <= 1e-12 for name in whole)


def test_autocast_does_not_lower_it(single):
    tensors = single(inputs())
    exact = vandermonde(**tensors, length=50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(vandermonde(**tensors, length=50), exact)


@pytest.mark.parametrize("triton", [False, True])
def test_the_op_keeps_pytorchs_rules(single, triton):
    tensors = [x.requires_grad_() for x in single(inputs(channels=2, pairs=3)).values()]
    torch.library.opcheck(op._sums.overload, (*tensors, 9, triton))


def test_triton_says_why_it_cannot_run_where_it_is_asked_for():
    tensors = inputs()
    assert "single precision" in op.why_not_triton(**tensors)
    with pytest.raises(ValueError, match="backend='triton' cannot run here: the kernels are written for single"):
        vandermonde(**tensors, length=5, backend="triton")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": torch.zeros(3, 8)}, "v to be complex"),
        ({"log_x": torch.zeros(3, 7, dtype=torch.complex128)}, "v and log_x"),
        ({"log_x": torch.zeros(2, 8, dtype=torch.complex128)}, "v and log_x"),
        ({"length": 0}, "length >= 1"),
        ({"backend": "cuda"}, "backend to be one of"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        vandermonde(**{**inputs(), "length": 5, **change})
