"""Single steps of the DPLR recurrence: PyTorch's operations and the pass that Numba compiles."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmkit_kernels import dplr_step, prepare_step
from wmkit_kernels.dplr_scan import reference
from wmkit_kernels.dplr_scan.step import why_not_one_pass


@pytest.fixture
def run(system):
    """A system with D, inputs and a state that the system can be in."""

    def make(length=1, batch=3, channels=3, size=64):
        tensors = system(channels=channels, size=size)
        past = torch.randn(batch, 50, channels, dtype=torch.float64)
        state = reference.dplr_scan(**tensors, u=past)[1]
        u = torch.randn(batch, length, channels, dtype=torch.float64)
        return {**tensors, "D": torch.randn(channels, dtype=torch.float64), "u": u, "state": state}

    return make


def by_definition(D, u, **tensors):
    y, last = reference.dplr_scan(**tensors, u=u)
    return y + D * u, last


def in_steps(u, state, backend="auto", dtype=torch.float32, **tensors):
    tables, outputs = prepare_step(**tensors, dtype=dtype), []
    for t in range(u.shape[1]):
        y, state = dplr_step(tables, u[:, t], state, backend=backend)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


@pytest.fixture
def ready(run, single):
    """Tables, one input and a state in single precision, for which a step is one pass."""

    def make(**sizes):
        tensors = single(run(**sizes))
        u, state = tensors.pop("u")[:, 0], tensors.pop("state")
        tables = prepare_step(**tensors)
        assert why_not_one_pass(tables, u, state) is None
        return tables, u, state

    return make


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_steps_equal_the_dense_definition_in_both_precisions(run, single, relative_error, backend):
    for dtype, tensors, tolerance in ((torch.float64, run(300), 1e-10), (torch.float32, single(run(300)), 5e-5)):
        found = in_steps(**tensors, backend=backend, dtype=dtype)
        for got, want, name in zip(found, by_definition(**tensors), ("outputs", "last state"), strict=True):
            assert got.dtype == dtype
            assert relative_error(got, want) <= tolerance, name


def test_gradcheck(run):
    tensors = run(batch=2, channels=2, size=6)
    leaves = [x.detach().requires_grad_() for x in tensors.values()]
    names = list(tensors)
    assert torch.autograd.gradcheck(
        lambda *xs: in_steps(**dict(zip(names, xs, strict=True)), dtype=torch.float64), leaves
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 9), channels=st.integers(1, 40), pairs=st.integers(1, 40), threads=st.integers(1, 4)
)  # fmt: skip
def test_one_pass_equals_pytorch_for_any_shape_and_any_number_of_threads(
    ready, relative_error, batch, channels, pairs, threads
):
    tables, u, state = ready(batch=batch, channels=channels, size=2 * pairs)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = dplr_step(tables, u, state)
    finally:
        torch.set_num_threads(before)
    for got, want in zip(found, dplr_step(tables, u, state, backend="torch"), strict=True):
        assert got.shape == want.shape
        assert relative_error(got, want) <= 2e-6


def test_one_pass_takes_strided_inputs_leaves_them_alone_and_writes_all_memory(ready, poisoned):
    tables, u, state = ready(batch=5, channels=33)
    strided = [torch.stack([x, x], dim=-1)[..., 0] for x in (u, state)]
    before = [x.clone() for x in strided]
    for got, want in zip(dplr_step(tables, *strided), dplr_step(tables, u, state), strict=True):
        assert torch.equal(got, want)
        assert got.isfinite().all()
    assert all(torch.equal(x, y) for x, y in zip(strided, before, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_pass_keeps_what_is_not_finite_to_its_row_and_channel(ready, bad):
    tables, u, state = ready(batch=4, channels=20)
    clean_y, clean_state = dplr_step(tables, u, state)
    state[1, 17, 3, 0] = bad
    y, after = dplr_step(tables, u, state)
    assert not y[1, 17].isfinite()
    assert not after[1, 17].isfinite().any()
    others = torch.ones_like(y, dtype=torch.bool)
    others[1, 17] = False
    assert torch.equal(y[others], clean_y[others])
    assert torch.equal(after[others], clean_state[others])


def test_a_step_is_one_pass_only_where_compiled_code_can_read_it(ready):
    tables, u, state = ready()
    wanted = u.clone().requires_grad_()
    assert why_not_one_pass(tables, wanted, state) == "a gradient is wanted"
    assert dplr_step(tables, wanted, state)[0].requires_grad
    with torch.no_grad():
        assert why_not_one_pass(tables, wanted, state) is None
    assert "single precision" in str(why_not_one_pass(tables, u, state.double()))
    assert "meta" in str(why_not_one_pass(tables, u.to("meta"), state))


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # PyTorch's own: no rule for addcmul_
def test_a_step_under_vmap_is_the_step_of_the_batch(ready, relative_error):
    tables, u, state = ready(batch=4)
    found = torch.vmap(lambda x, s: dplr_step(tables, x, s))(u.view(2, 2, -1), state.view(2, 2, *state.shape[1:]))
    for got, want in zip(found, dplr_step(tables, u, state), strict=True):
        assert relative_error(got.flatten(0, 1), want) <= 2e-6


def test_a_step_stays_in_the_precision_of_its_tables_under_autocast(ready):
    tables, u, state = ready()
    for backend in ("auto", "torch"):
        expected = dplr_step(tables, u, state, backend=backend)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = dplr_step(tables, u, state, backend=backend)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert dplr_step(tables, u.bfloat16(), state)[0].dtype == torch.float32


def test_machine_code_without_a_team_is_refused_with_the_reason(ready, monkeypatch):
    from wmkit_kernels import team

    monkeypatch.setattr(team, "_entry", lambda: None)
    assert "OpenMP" in str(team.why_no_team())
    with pytest.raises(AssertionError, match="why_no_team"):
        team.run_on_team(0, [])
