import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmkit_kernels import dplr_prepared_scan, dplr_scan, prepare_scan, reference


@pytest.fixture
def run(system):
    """A system with inputs, an incoming state that the system can be in, and resets."""

    def make(length, batch=3, channels=3, size=64):
        tensors = system(channels=channels, size=size)
        past = torch.randn(batch, 50, channels, dtype=torch.float64)
        tensors["state"] = reference.dplr_scan(**tensors, u=past)[1]
        tensors["u"] = torch.randn(batch, length, channels, dtype=torch.float64)
        return tensors

    return make


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("length", [1, 7, 16, 17, 63, 1000])
def test_equals_the_dense_definition_in_both_precisions(run, single, relative_error, length, resets):
    tensors = run(length, channels=2)
    mask = torch.rand(3, length) < 0.1 if resets else None
    expected = reference.dplr_scan(**tensors, is_first=mask)
    double = dplr_scan(**tensors, is_first=mask)
    rounded = dplr_scan(**single(tensors), is_first=mask)
    for i, name in enumerate(("outputs", "last state")):
        assert relative_error(double[i], expected[i]) <= 1e-10, name
        assert relative_error(rounded[i], expected[i]) <= 5e-5, name
        assert rounded[i].dtype == torch.float32


@pytest.mark.parametrize(
    "resets", [(0,), (16,), (39,), (15, 16, 17), tuple(range(40))], ids=lambda steps: f"{len(steps)}@{steps[0]}"
)
def test_a_reset_is_a_fresh_start_wherever_it_falls(run, relative_error, resets):
    tensors = run(40)
    mask = torch.zeros(3, 40, dtype=torch.bool)
    mask[1, list(resets)] = True
    y, last = dplr_scan(**tensors, is_first=mask)
    fresh = {**tensors, "u": tensors["u"][1:2, resets[-1] :], "state": None}
    fresh_y, fresh_last = dplr_scan(**fresh)
    assert relative_error(y[1:2, resets[-1] :], fresh_y) <= 1e-10
    assert relative_error(last[1:2], fresh_last) <= 1e-10
    unbroken = dplr_scan(**tensors)[0]
    assert relative_error(y[[0, 2]], unbroken[[0, 2]]) <= 1e-10


def test_what_happened_before_a_reset_cannot_spoil_what_follows(run):
    tensors = run(20)
    tensors["state"] = torch.full_like(tensors["state"], float("nan"))
    y, last = dplr_scan(**tensors, is_first=torch.arange(20).repeat(3, 1) == 5)
    assert y[:, :5].isnan().all()
    assert y[:, 5:].isfinite().all()
    assert last.isfinite().all()


@pytest.mark.parametrize("resets", [False, True])
def test_gradcheck(run, resets):
    tensors = run(19, batch=2, channels=2, size=6)
    mask = (torch.arange(19) == torch.tensor([[4], [17]])) if resets else None
    leaves = [x.requires_grad_() for x in tensors.values()]
    names = list(tensors)
    assert torch.autograd.gradcheck(
        lambda *xs: dplr_scan(**dict(zip(names, xs, strict=True)), is_first=mask), leaves, fast_mode=True
    )


def test_each_gradient_equals_that_of_the_dense_definition(run, single, gradients, relative_error):
    tensors, mask = run(37), torch.rand(3, 37) < 0.1
    dense = gradients(lambda **xs: reference.dplr_scan(**xs, is_first=mask), tensors)
    double = gradients(lambda **xs: dplr_scan(**xs, is_first=mask), tensors)
    rounded = gradients(lambda **xs: dplr_scan(**xs, is_first=mask), single(tensors))
    for name, expected in dense.items():
        assert relative_error(double[name], expected) <= 1e-8, name
        assert relative_error(rounded[name], expected) <= 1e-4, name


@pytest.fixture
def compare(close_to_definition):
    """Compares outputs, last state and each gradient, by name, with the dense definition in single precision."""

    def check(tensors, is_first=None):
        close_to_definition(
            lambda **xs: dplr_scan(**xs, is_first=is_first),
            lambda dtype, **xs: reference.dplr_scan(**xs, is_first=is_first, dtype=dtype),
            tensors, 2e-6, 1e-5,
        )  # fmt: skip

    return check


@pytest.mark.parametrize(
    ("length", "resets"), [(1, False), (7, True), (63, False), (64, False), (64, True), (1000, True)]
)
def test_outputs_and_each_gradient_round_no_more_than_the_dense_definition(run, compare, length, resets):
    compare(run(length, batch=2, channels=2), torch.rand(2, length) < 0.1 if resets else None)


def test_slow_decay_where_every_power_is_close_to_one(run, compare):
    tensors = run(130, channels=2, size=8)
    tensors["Lambda"] = torch.complex(torch.full((4,), -(2.0**-10)), torch.arange(4.0)).to(torch.complex128)
    tensors["P"] = tensors["P"] * 2**-8
    compare(tensors)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 3), channels=st.integers(1, 3), pairs=st.integers(1, 20), length=st.integers(1, 40),
    often=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)  # fmt: skip
def test_any_shape_and_any_reset(run, relative_error, batch, channels, pairs, length, often):
    tensors, mask = run(length, batch, channels, 2 * pairs), torch.rand(batch, length) < often
    for found, exact in zip(
        dplr_scan(**tensors, is_first=mask), reference.dplr_scan(**tensors, is_first=mask), strict=True
    ):
        assert relative_error(found, exact) <= 1e-9


@pytest.mark.parametrize("resets", [False, True])
def test_autocast_and_half_precision_inputs_do_not_lower_the_recurrence(run, single, resets):
    tensors = single(run(40))
    tensors["u"] = tensors["u"].bfloat16()
    mask = torch.rand(3, 40) < 0.1 if resets else None
    exact = dplr_scan(**{**tensors, "u": tensors["u"].float()}, is_first=mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = dplr_scan(**tensors, is_first=mask)
    assert all(torch.equal(a, b) for a, b in zip(lowered, exact, strict=True))


def test_inputs_need_not_be_contiguous_and_no_memory_is_left_unwritten(run, gradients, relative_error, poisoned):
    tensors, mask = run(21), torch.rand(3, 42)[:, ::2] < 0.1
    strided = {name: torch.stack([x, x], dim=-1)[..., 0] for name, x in tensors.items()}
    for a, b in zip(dplr_scan(**strided), dplr_scan(**tensors), strict=True):
        assert relative_error(a, b) <= 1e-14
    found, expected = (gradients(lambda **xs: dplr_scan(**xs, is_first=mask), xs) for xs in (strided, tensors))
    assert all(relative_error(found[name], expected[name]) <= 1e-12 for name in expected)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("length", [1, 7, 8, 107])
def test_a_prepared_scan_equals_the_dense_definition_in_both_precisions(run, relative_error, length, resets):
    tensors, D = run(length, channels=2), torch.randn(2, dtype=torch.float64)
    mask = torch.rand(3, length) < 0.1 if resets else None
    y, last = reference.dplr_scan(**tensors, is_first=mask)
    state, u = tensors.pop("state"), tensors.pop("u")
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 5e-5)):
        tables = prepare_scan(**tensors, D=D, dtype=dtype)
        found_y, found_last = dplr_prepared_scan(tables, u, state, mask)
        assert found_y.dtype == found_last.dtype == dtype
        assert relative_error(found_y, y + D * u) <= tolerance
        assert relative_error(found_last, last) <= tolerance


def test_one_table_serves_sequences_of_every_length_and_starts_from_zeros(run, single, relative_error):
    tensors = single(run(150))
    state, u = tensors.pop("state"), tensors.pop("u")
    tables = prepare_scan(**tensors, D=torch.zeros(3))
    whole, last = dplr_prepared_scan(tables, u, state)
    middle, between = dplr_prepared_scan(tables, u[:, :70], state)
    rest, last_of_pieces = dplr_prepared_scan(tables, u[:, 70:], between)
    assert relative_error(torch.cat([middle, rest], dim=1), whole) <= 1e-5
    assert relative_error(last_of_pieces, last) <= 1e-5
    from_nothing, from_zeros = (dplr_prepared_scan(tables, u, s)[0] for s in (None, torch.zeros_like(state)))
    assert torch.equal(from_nothing, from_zeros)


def test_a_prepared_scan_stays_in_its_precision_under_autocast_and_names_wrong_arguments(run, single):
    tensors = single(run(40))
    state, u = tensors.pop("state"), tensors.pop("u")
    tables = prepare_scan(**tensors, D=torch.zeros(3))
    exact = dplr_prepared_scan(tables, u.bfloat16().float(), state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = dplr_prepared_scan(tables, u.bfloat16(), state)
    assert all(torch.equal(a, b) for a, b in zip(lowered, exact, strict=True))
    with pytest.raises(ValueError, match="u \\(B, T"):
        dplr_prepared_scan(tables, u[..., :2])
    with pytest.raises(ValueError, match="bool"):
        dplr_prepared_scan(tables, u, state, torch.zeros(3, 40))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("u", torch.zeros(3, 8, 4), "u \\(B, T"),
        ("u", torch.zeros(3, 0, 3), "u \\(B, T"),
        ("state", torch.zeros(3, 3, 32), "state \\(B, H, N, 2\\)"),
        ("is_first", torch.zeros(3, 8), "bool"),
        ("is_first", torch.zeros(8, 3, dtype=torch.bool), "is_first \\(B, T\\)"),
    ],
)
def test_wrong_arguments_are_named(run, name, value, message):
    with pytest.raises(ValueError, match=message):
        dplr_scan(**{**run(8), name: value})
