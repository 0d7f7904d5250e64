"""Single steps of the DPLR recurrence: PyTorch's operations and the pass that Numba compiles."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba.core import caching
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from wmkit_kernels import dplr_step, prepare_step, reference
from wmkit_kernels.dplr_scan import cpu, why_not_compiled_step
from wmkit_kernels.dplr_scan.cpu import openmp, why_never
from wmkit_kernels.dplr_scan.cpu.numba_impl import _compiled, one_pass

needs_openmp = pytest.mark.skipif(why_never() is not None, reason=str(why_never()))


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
    """Tables, one input and a state in single precision."""

    def make(**sizes):
        tensors = single(run(**sizes))
        u, state = tensors.pop("u")[:, 0], tensors.pop("state")
        return prepare_step(**tensors), u, state

    return make


@pytest.fixture
def passes(monkeypatch):
    """A list that grows with every compiled pass."""
    from wmkit_kernels.dplr_scan.cpu import numba_impl

    counted = []

    def counting(*arguments, **options):
        counted.append(arguments)
        return openmp.run_parallel(*arguments, **options)

    monkeypatch.setattr(numba_impl, "run_parallel", counting)
    return counted


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


@needs_openmp
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(0, 9), channels=st.integers(1, 80), pairs=st.integers(1, 40), threads=st.integers(1, 4))
def test_one_pass_equals_pytorch_for_any_shape_and_any_number_of_threads(ready, batch, channels, pairs, threads):
    tables, u, state = ready(batch=batch, channels=channels, size=2 * pairs)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = one_pass(tables.packed, u, state)
    finally:
        torch.set_num_threads(before)
    for got, want in zip(found, dplr_step(tables, u, state, backend="torch"), strict=True):
        assert got.shape == want.shape
        assert (got - want).norm() <= 2e-6 * want.norm()


@needs_openmp
def test_one_pass_takes_strided_inputs_leaves_them_alone_and_writes_all_memory(ready, poisoned):
    tables, u, state = ready(batch=17, channels=33)
    strided = [torch.stack([x, x], dim=-1)[..., 0] for x in (u, state)]
    before = [x.clone() for x in strided]
    for got, want in zip(one_pass(tables.packed, *strided), one_pass(tables.packed, u, state), strict=True):
        assert torch.equal(got, want)
        assert got.isfinite().all()
    assert all(torch.equal(x, y) for x, y in zip(strided, before, strict=True))


FEW_THREADS = """
import torch
from wmkit.backbones.ssm.hippo import legs_dplr
from wmkit_kernels import dplr_step, prepare_step
torch.set_num_threads(4)
torch.use_deterministic_algorithms(True)  # fresh memory holds NaN
Lambda, P, B = legs_dplr(64)
C, dt, D = torch.randn(40, 32, dtype=torch.complex128), torch.rand(40).double(), torch.zeros(40).double()
tables, u, state = prepare_step(Lambda, P, B, C, dt, D), torch.randn(50, 40), torch.randn(50, 40, 32, 2)
for got, want in zip(dplr_step(tables, u, state), dplr_step(tables, u, state, backend="torch")):
    assert (got - want).norm() <= 1e-5 * want.norm(), (got - want).norm()
"""


@needs_openmp
def test_fewer_threads_than_asked_for_do_all_of_the_work():
    environment = os.environ | {"OMP_THREAD_LIMIT": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", FEW_THREADS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@needs_openmp
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_pass_keeps_what_is_not_finite_to_its_row_and_channel(ready, bad):
    tables, u, state = ready(batch=4, channels=20)
    clean_y, clean_state = one_pass(tables.packed, u, state)
    state[1, 17, 3, 0] = bad
    y, after = one_pass(tables.packed, u, state)
    assert not y[1, 17].isfinite()
    assert not after[1, 17].isfinite().any()
    others = torch.ones_like(y, dtype=torch.bool)
    others[1, 17] = False
    assert torch.equal(y[others], clean_y[others])
    assert torch.equal(after[others], clean_state[others])


@needs_openmp
def test_auto_takes_the_compiled_pass_without_gradients_in_single_precision(ready, passes):
    tables, u, state = ready()
    dplr_step(tables, u, state)
    assert len(passes) == 1
    wanted = u.clone().requires_grad_()
    with torch.no_grad():
        dplr_step(tables, wanted, state)
    assert len(passes) == 2
    assert why_not_compiled_step(tables, wanted, state) == "a gradient is wanted"
    assert dplr_step(tables, wanted, state)[0].requires_grad
    assert "meta" in str(why_not_compiled_step(tables, u.to("meta"), state))
    assert "single precision" in str(why_not_compiled_step(tables, u, state.double()))
    assert "in memory" in str(why_not_compiled_step(tables, torch._neg_view(u), state))
    dplr_step(tables, u, state, backend="torch")
    assert len(passes) == 2


def test_tables_that_were_used_without_gradients_still_have_them(run, single):
    tensors = single(run())
    u, state = tensors.pop("u")[:, 0], tensors.pop("state")
    tables = prepare_step(**tensors | {"C": tensors["C"].requires_grad_()})
    with torch.no_grad():
        dplr_step(tables, u, state)
    y, _ = dplr_step(tables, u, state)
    y.sum().backward()
    assert tensors["C"].grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # PyTorch's own rules use it
def test_forward_derivatives_are_those_of_pytorchs_operations(ready):
    tables, u, state = ready()
    tangents = []
    for backend in ("auto", "torch"):
        with torch.no_grad(), forward_ad.dual_level():
            y, _ = dplr_step(tables, forward_ad.make_dual(u, torch.ones_like(u)), state, backend=backend)
            tangents.append(forward_ad.unpack_dual(y).tangent)
    assert torch.equal(*tangents)


def test_what_traces_operations_sees_all_of_them(ready):
    tables, u, state = ready()
    expected, after = dplr_step(tables, u, state)
    graph = make_fx(lambda x, s: dplr_step(tables, x, s)[0])(u, state)
    torch.testing.assert_close(graph(2 * u, 2 * state), 2 * expected)
    torch.testing.assert_close(torch.func.functionalize(lambda x, s: dplr_step(tables, x, s)[1])(u, state), after)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y, fake = dplr_step(tables, mode.from_tensor(u), mode.from_tensor(state))
    assert (y.shape, fake.shape) == (expected.shape, after.shape)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # PyTorch's own: no rule for addcmul_
def test_a_step_under_vmap_is_the_step_of_the_batch(ready, relative_error):
    tables, u, state = ready(batch=4)
    found = torch.vmap(lambda x, s: dplr_step(tables, x, s))(u.view(2, 2, -1), state.view(2, 2, *state.shape[1:]))
    for got, want in zip(found, dplr_step(tables, u, state), strict=True):
        assert relative_error(got.flatten(0, 1), want) <= 2e-6


def test_numbers_with_a_pending_sign_are_read_with_it(ready):
    tables, u, state = ready()
    for got, want in zip(dplr_step(tables, torch._neg_view(u), state), dplr_step(tables, -u, state), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tables: pickle.loads(pickle.dumps(tables))])
def test_copies_of_tables_read_their_own_numbers(ready, duplicate):
    tables, u, state = ready()
    expected = [x.clone() for x in dplr_step(tables, u, state)]
    copied = duplicate(tables)
    tables.packed.zero_()
    assert all(torch.equal(x, y) for x, y in zip(dplr_step(copied, u, state), expected, strict=True))
    if why_never() is None:
        assert not dplr_step(tables, u, state)[0].any()


def test_a_step_stays_in_the_precision_of_its_tables_under_autocast(ready):
    tables, u, state = ready()
    for backend in ("auto", "torch"):
        expected = dplr_step(tables, u, state, backend=backend)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = dplr_step(tables, u, state, backend=backend)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert dplr_step(tables, u.bfloat16(), state)[0].dtype == torch.float32


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize(
    ("change_u", "change_state"),
    [
        (lambda u: u, lambda s: s[:1]),
        (lambda u: u[:1], lambda s: s),
        (lambda u: u[:, :-1], lambda s: s),
        (lambda u: u[:, :-1], lambda s: s[:, :-1]),
        (lambda u: u, lambda s: s[:, :, :-1]),
        (lambda u: u.unsqueeze(1), lambda s: s),
        (lambda u: u, lambda s: s.flatten(-2)),
        (lambda u: u, lambda s: torch.view_as_complex(s)),
    ],
)
def test_wrong_shapes_are_refused_before_anything_is_read(ready, backend, change_u, change_state):
    tables, u, state = ready()
    with pytest.raises(ValueError, match=r"expected u \(B, H = 3\) and state \(B, H, N = 32, 2\), got"):
        dplr_step(tables, change_u(u), change_state(state), backend=backend)


def test_a_skip_of_another_shape_is_refused(run):
    tensors = {name: x for name, x in run().items() if name not in ("u", "state")}
    with pytest.raises(ValueError, match=r"expected D \(H,\) = \(3,\) real, got \(3, 1\)"):
        prepare_step(**tensors | {"D": tensors["D"].unsqueeze(1)})


def test_compiled_code_without_openmp_is_refused_with_the_reason(ready, monkeypatch):
    tables, u, state = ready()
    monkeypatch.setattr(openmp, "_entry", lambda: None)
    assert "OpenMP" in str(why_not_compiled_step(tables, u, state))
    assert torch.equal(dplr_step(tables, u, state)[0], dplr_step(tables, u, state, backend="torch")[0])
    with pytest.raises(AssertionError, match="why_no_openmp"):
        openmp.run_parallel(0, [], alone=True)


def test_a_switch_turns_the_compiled_step_off(ready, monkeypatch):
    tables, u, state = ready()
    monkeypatch.setenv("WMKIT_NUMBA_STEP", "0")
    cpu._compiled.cache_clear()
    try:
        assert "WMKIT_NUMBA_STEP" in str(why_not_compiled_step(tables, u, state))
        assert torch.equal(dplr_step(tables, u, state)[0], dplr_step(tables, u, state, backend="torch")[0])
    finally:
        cpu._compiled.cache_clear()


@pytest.mark.reported(
    "machines",
    "librosa/librosa#1156, numba/numba#4032",
    "no folder for Numba's cache, a full disk or a damaged file in it",
    "S4's compiled step compiles for this process, with the same numbers",
)
@pytest.mark.parametrize("trouble", ["no folder", "full", "damaged"])
def test_the_step_compiles_where_its_code_cannot_be_kept(trouble, monkeypatch):
    def fail(*arguments):
        raise {"full": OSError(28, "No space left on device"), "damaged": EOFError("Ran out of input")}[trouble]

    if trouble == "no folder":
        monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    else:
        monkeypatch.setattr(caching.Cache, "save_overload" if trouble == "full" else "load_overload", fail)
    assert _compiled(lambda address: None).address
