"""The diagonal recurrence against its definition, on the CPU and in Triton."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit_kernels import diagonal_scan, reference
from wmkit_kernels.diagonal_scan import op, two_level

FLOOR = 2e-6
"""Relative error in single precision allowed beside twice the reference's own."""

COMPLEX = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])


def numbers(length, dtype=torch.complex128, varies=False, batch=2, width=5, modulus=0.9):
    """a near the circle of `modulus`, shared by rows and steps or one for each."""
    shape = (batch, length, width) if varies else (width,)
    a = torch.randn(shape, dtype=dtype)
    return {
        "a": modulus * a / a.abs(),
        "b": torch.randn(batch, length, width, dtype=dtype),
        "initial_state": torch.randn(batch, width, dtype=dtype),
    }


def real_parts(x):
    return torch.view_as_real(x) if x.is_complex() else x


def projected(function, tensors, mask, gradients):
    """Gradients of a real projection."""
    return gradients(lambda **xs: real_parts(function(**xs, is_first=mask)), tensors)


def agrees(tensors, single, gradients, relative_error, mask, **options):
    """Output and every gradient in single precision against the definition in double."""
    rounded = single(tensors)
    double = {name: x.to(tensors[name].dtype) for name, x in rounded.items()}

    def scan(**xs):
        return diagonal_scan(**xs, **options)

    exact, plain = (reference.diagonal_scan(**xs, is_first=mask) for xs in (double, rounded))
    found = scan(**rounded, is_first=mask)
    assert found.dtype == rounded["b"].dtype
    assert relative_error(found, exact) <= 2 * relative_error(plain, exact) + FLOOR
    exact, plain = (projected(reference.diagonal_scan, xs, mask, gradients) for xs in (double, rounded))
    found = projected(scan, rounded, mask, gradients)
    for name, expected in exact.items():
        own = (plain[name] - expected).norm()
        assert (found[name] - expected).norm() <= 2 * own + FLOOR * expected.norm(), name


@COMPLEX
@pytest.mark.parametrize(
    ("length", "varies"), [(1, False), (7, True), (63, False), (64, True), (1000, False), (1000, True)]
)
def test_single_precision_equals_the_definition(single, gradients, relative_error, length, varies, dtype):
    mask = torch.rand(2, length) < 0.05
    tensors = numbers(length, dtype, varies)
    agrees(tensors, single, gradients, relative_error, mask, backend="torch")
    agrees(tensors, single, gradients, relative_error, None, backend="torch")


@COMPLEX
@pytest.mark.parametrize(("length", "varies"), [(1, True), (7, False), (64, True), (1000, False)])
def test_double_precision_equals_the_definition(gradients, relative_error, length, varies, dtype):
    tensors, mask = numbers(length, dtype, varies), torch.rand(2, length) < 0.05
    exact = reference.diagonal_scan(**tensors, is_first=mask)
    assert relative_error(diagonal_scan(**tensors, is_first=mask), exact) <= 1e-12
    exact, found = (projected(f, tensors, mask, gradients) for f in (reference.diagonal_scan, diagonal_scan))
    assert all((found[name] - exact[name]).norm() <= 1e-11 * exact[name].norm() for name in exact)


@pytest.fixture
def short_chunks(monkeypatch):
    """Chunks of 8 steps, so that the interpreter has fewer to go through before the next one begins."""
    from wmkit_kernels.diagonal_scan import triton_impl

    monkeypatch.setattr(triton_impl, "STEPS", 8)


@COMPLEX
@pytest.mark.parametrize(("length", "varies"), [(1, False), (7, True), (9, False), (9, True), (17, True)])
def test_the_interpreted_kernels_equal_the_definition(
    single, gradients, relative_error, poisoned, short_chunks, length, varies, dtype
):
    mask = torch.zeros(1, length, dtype=torch.bool)
    mask[0, length // 3] = mask[0, length // 2] = True
    tensors = numbers(length, dtype, varies, batch=1)
    agrees(tensors, single, gradients, relative_error, mask, backend="triton")


def test_the_interpreted_kernels_equal_the_definition_in_chunks_of_their_own(
    single, gradients, relative_error, poisoned
):
    mask = torch.arange(65).unsqueeze(0) == torch.tensor([[21]])
    agrees(numbers(65, varies=True, batch=1), single, gradients, relative_error, mask, backend="triton")


def test_the_interpreted_kernels_without_resets_or_initial_state(
    single, gradients, relative_error, poisoned, short_chunks
):
    tensors = numbers(17, batch=1)
    del tensors["initial_state"]
    agrees(tensors, single, gradients, relative_error, None, backend="triton")


@pytest.mark.parametrize("wide", [1, 1 << 30], ids=["one chunk", "many chunks"])
@pytest.mark.parametrize("modulus", [1.0, 1 - 1e-6, 0.0])
def test_chunks_agree_on_and_near_the_unit_circle(single, gradients, relative_error, monkeypatch, wide, modulus):
    monkeypatch.setattr(two_level, "WIDE", wide)
    mask = torch.rand(2, 150) < 0.02
    agrees(numbers(150, modulus=modulus), single, gradients, relative_error, mask)


@given(
    batch=st.integers(1, 3), length=st.integers(1, 40), width=st.integers(1, 4), lead=st.integers(0, 3),
    ones=st.lists(st.booleans(), min_size=3, max_size=3), resets=st.booleans(), start=st.booleans(),
)  # fmt: skip
def test_any_shape_that_broadcasts_equals_the_definition(batch, length, width, lead, ones, resets, start):
    full = (batch, length, width)
    shape = [1 if one else size for one, size in zip(ones, full, strict=True)][lead:]
    tensors = [torch.randn(shape).double(), torch.randn(full).double(), torch.randn(batch, width).double()]
    tensors = [x.requires_grad_() for x in tensors[: 2 + start]]
    mask = torch.rand(batch, length) < 0.2 if resets else None
    weight = torch.randn(full).double()
    found, exact = (f(*tensors, is_first=mask) for f in (diagonal_scan, reference.diagonal_scan))
    assert (found - exact).norm() <= 1e-11 * exact.norm()
    found, exact = (torch.autograd.grad((y * weight).sum(), tensors) for y in (found, exact))
    for a, b in zip(found, exact, strict=True):
        assert a.shape == b.shape
        assert (a - b).norm() <= 1e-10 * (1 + b.norm())


@COMPLEX
def test_gradcheck(dtype):
    leaves = [x.requires_grad_() for x in numbers(11, dtype, width=2).values()]
    mask = torch.arange(11) == torch.tensor([[4], [10]])
    assert torch.autograd.gradcheck(lambda *xs: diagonal_scan(*xs, mask), leaves, fast_mode=True)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_what_happened_before_a_reset_cannot_spoil_what_follows(single, backend):
    tensors = single(numbers(65, batch=1))
    tensors["initial_state"] = torch.full_like(tensors["initial_state"], float("nan"))
    mask = torch.arange(65).unsqueeze(0) == 20
    states = diagonal_scan(**tensors, is_first=mask, backend=backend)
    assert states[:, :20].isnan().all()
    assert states[:, 20:].isfinite().all()


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_inputs_need_not_be_contiguous_and_no_memory_is_left_unwritten(
    single, gradients, relative_error, poisoned, backend
):
    tensors = single(numbers(20, varies=True))
    strided = {
        name: torch.stack([x, x], dim=-1)[..., 0].mT.contiguous().mT.conj().conj() for name, x in tensors.items()
    }

    def scan(is_first=None, **xs):
        return diagonal_scan(**xs, is_first=is_first, backend=backend)

    assert relative_error(scan(**strided), scan(**tensors)) <= 1e-6
    found, expected = (projected(scan, xs, None, gradients) for xs in (strided, tensors))
    assert all(relative_error(found[name], expected[name]) <= 1e-6 for name in expected)


def test_precision_is_the_highest_given_and_at_least_single():
    half, double = torch.rand(4).bfloat16(), torch.rand(2, 3, 4).double()
    assert diagonal_scan(half, half.expand(2, 3, 4)).dtype == torch.float32
    assert diagonal_scan(half, double).dtype == torch.float64
    assert diagonal_scan(torch.randn(4, dtype=torch.complex64), double).dtype == torch.complex128
    assert diagonal_scan(half, double, torch.zeros(2, 4, dtype=torch.complex64)).dtype == torch.complex128


@pytest.mark.parametrize("triton", [False, True])
def test_the_op_keeps_pytorchs_rules(single, triton):
    a, b, state = single(numbers(4)).values()
    a, b, state = (x.requires_grad_() for x in (a[None, None].clone(), b, state))
    mask = torch.rand(2, 4) < 0.3
    torch.library.opcheck(op._scan.overload, (a, b, state, mask, triton))
    torch.library.opcheck(op._scan.overload, (a, b, None, None, triton))


def test_triton_says_why_it_cannot_run_where_it_is_asked_for():
    tensors = numbers(3)
    assert "single precision" in op.why_not_triton(*tensors.values())
    with pytest.raises(ValueError, match="backend='triton' cannot run here"):
        diagonal_scan(**tensors, backend="triton")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("b", torch.zeros(3, 5), "b \\(B, T"),
        ("b", torch.zeros(2, 0, 5), "b \\(B, T"),
        ("b", torch.zeros(2, 8, 5, dtype=torch.int64), "b to be real or complex"),
        ("a", torch.zeros(4), "a broadcastable"),
        ("a", torch.zeros(1, 2, 8, 5), "a broadcastable"),
        ("initial_state", torch.zeros(2, 4), "initial_state \\(B, N\\)"),
        ("is_first", torch.zeros(2, 8), "is_first"),
        ("is_first", torch.zeros(8, 2, dtype=torch.bool), "is_first"),
    ],
)
def test_wrong_arguments_are_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        diagonal_scan(**{**numbers(8), name: value})
