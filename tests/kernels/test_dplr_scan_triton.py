"""`dplr_scan` in Triton, by Triton's interpreter, against the dense definition.

Allowed: twice the error of the same definition in single precision, plus FLOOR (outputs) or GRADIENT_FLOOR.
"""

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from wmkit_kernels import dplr_prepared_scan, dplr_scan, dplr_step, prepare_scan, prepare_step, reference

FLOOR, GRADIENT_FLOOR = 2e-6, 1e-5


@pytest.fixture
def run(system, single):
    """A system in single precision with inputs and an incoming state that the system can be in."""

    def make(length, batch=1, channels=2, size=64):
        tensors = system(channels=channels, size=size)
        past = torch.randn(batch, 20, channels, dtype=torch.float64)
        tensors["state"] = reference.dplr_scan(**tensors, u=past)[1]
        tensors["u"] = torch.randn(batch, length, channels, dtype=torch.float64)
        return single(tensors)

    return make


@pytest.fixture
def compare(close_to_definition):
    """Compares outputs, last state and each gradient, by name, with the dense definition."""

    def check(tensors, is_first=None):
        close_to_definition(
            lambda **xs: dplr_scan(**xs, is_first=is_first, backend="triton"),
            lambda dtype, **xs: reference.dplr_scan(**xs, is_first=is_first, dtype=dtype),
            tensors, FLOOR, GRADIENT_FLOOR,
        )  # fmt: skip

    return check


@pytest.mark.parametrize(("length", "resets"), [(1, False), (7, True), (31, True), (32, False), (33, True)])
def test_outputs_and_each_gradient_equal_the_dense_definition(run, compare, length, resets):
    """On both sides of the 32 steps after which a state is kept."""
    compare(run(length), torch.rand(1, length) < 0.1 if resets else None)


def test_several_rows_and_channels_over_three_kept_states(run, compare):
    mask = torch.zeros(2, 65, dtype=torch.bool)
    mask[0, [0, 32]] = mask[1, 64] = True
    compare(run(65, batch=2, channels=5, size=16), mask)


def test_slow_decay_where_every_power_is_close_to_one(run, compare):
    tensors = run(40, size=8)
    tensors["Lambda"] = torch.complex(torch.full((4,), -(2.0**-10)), torch.arange(4.0))
    tensors["P"] = tensors["P"] * 2**-8
    compare(tensors)


@settings(max_examples=3, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 9),
    pairs=st.integers(1, 20),
    length=st.integers(1, 9),
    data=st.data(),
)
def test_any_shape_and_any_reset(run, compare, batch, channels, pairs, length, data):
    mask = data.draw(st.lists(st.booleans(), min_size=batch * length, max_size=batch * length))
    compare(run(length, batch, channels, 2 * pairs), torch.tensor(mask).view(batch, length))


def test_strided_inputs_and_poisoned_memory(run, gradients, poisoned):
    tensors, mask = run(5, channels=9, size=10), torch.rand(1, 10)[:, ::2] < 0.3  # two tiles of channels
    strided = {name: torch.stack([x, x], dim=-1)[..., 0] for name, x in tensors.items()}

    def triton(**xs):
        return dplr_scan(**xs, is_first=mask, backend="triton")

    assert all(torch.equal(a, b) for a, b in zip(triton(**strided), triton(**tensors), strict=True))
    found, expected = gradients(triton, strided), gradients(triton, tensors)
    assert all(torch.equal(found[name], expected[name]) and found[name].isfinite().all() for name in expected)


def test_what_happened_before_a_reset_cannot_spoil_what_follows(run, gradients):
    tensors = run(6, size=8)
    tensors["state"] = torch.full_like(tensors["state"], float("nan"))
    mask = torch.arange(6).unsqueeze(0) == 2

    def after(**xs):
        y, last = dplr_scan(**xs, is_first=mask, backend="triton")
        return y[:, 2:], last

    y, last = dplr_scan(**tensors, is_first=mask, backend="triton")
    assert y[:, :2].isnan().all()
    assert y[:, 2:].isfinite().all()
    assert last.isfinite().all()
    assert (gradients(after, tensors)["state"] == 0).all()


def test_no_state_is_a_state_of_zeros_and_no_gradient_keeps_no_states(run):
    from wmkit_kernels.dplr_scan import triton_impl
    from wmkit_kernels.dplr_scan.recurrence import table_of

    tensors = run(40, size=8)
    state, u = tensors.pop("state"), tensors.pop("u")
    table = table_of(**tensors).float()
    y, last, kept = triton_impl.forward(table, u, None, None, keep=False)
    of_zeros = triton_impl.forward(table, u, torch.zeros_like(state), None, keep=True)
    assert kept.numel() == 0
    assert of_zeros[2].shape == (1, 2, *state.shape[1:])
    assert torch.equal(y, of_zeros[0])
    assert torch.equal(last, of_zeros[1])


def test_kept_tables_give_the_same_for_steps_and_scans(run, relative_error):
    tensors, D = run(5, batch=2, channels=3, size=12), torch.randn(3)
    expected_y, expected_last = dplr_scan(**tensors)
    state, u = tensors.pop("state"), tensors.pop("u")
    tables = prepare_scan(**tensors, D=D)
    y, last = dplr_prepared_scan(tables, u, state, backend="triton")
    assert relative_error(y, expected_y + D * u) <= 1e-5
    assert relative_error(last, expected_last) <= 1e-5
    step, outputs = prepare_step(**tensors, D=D), []
    for t in range(5):
        out, state = dplr_step(step, u[:, t], state, backend="triton")
        outputs.append(out)
    assert relative_error(torch.stack(outputs, dim=1), expected_y + D * u) <= 1e-5
    assert relative_error(state, expected_last) <= 1e-5


def test_triton_refuses_with_the_reason_what_it_cannot_do(run):
    tensors = run(3, size=8)
    with pytest.raises(ValueError, match="single precision"):
        dplr_scan(**{**tensors, "u": tensors["u"].double()}, backend="triton")
    with pytest.raises(ValueError, match="80 conjugate pairs"):
        dplr_scan(**run(2, size=160), backend="triton")
    with pytest.raises(ValueError, match="auto, torch, triton"):
        dplr_scan(**tensors, backend="cuda")
