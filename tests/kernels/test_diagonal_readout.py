"""The diagonal recurrence read out on the spot against all its states, for spans of every length."""

import pytest
import torch

from wmkit_kernels import diagonal_readout, diagonal_readout_step, prepare_readout, prepare_readout_step, reference


def system(channels=3, pairs=4):
    log_a = torch.complex(-torch.rand(channels, pairs) / 20, torch.randn(channels, pairs)).to(torch.complex128)
    b, c = (torch.randn(channels, pairs, dtype=torch.complex128) for _ in "bc")
    return {"a": torch.exp(log_a), "b": b, "c": c, "d": torch.randn(channels).double()}


def by_states(a, b, c, d, u, state, is_first=None):
    """From the definition: all states of all channels, then the sums."""
    entered = (u.unsqueeze(-1) * b).flatten(2)
    start = torch.view_as_complex(state).flatten(1)
    states = reference.diagonal_scan(a.flatten(), entered, start, is_first).unflatten(2, a.shape)
    return 2 * (states * c).real.sum(-1) + d * u, torch.view_as_real(states[:, -1])


def run(length, batch=2):
    return torch.randn(batch, length, 3).double(), torch.randn(batch, 3, 4, 2).double()


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize(
    ("steps", "length"), [(8, 1), (8, 7), (8, 8), (8, 107), (64, 31), (64, 64), (64, 107), (64, 1000)]
)
def test_equals_the_definition_in_both_precisions(relative_error, steps, length, resets):
    tensors, (u, state) = system(), run(length)
    mask = torch.rand(2, length) < 0.1 if resets else None
    exact = by_states(**tensors, u=u, state=state, is_first=mask)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        found = diagonal_readout(prepare_readout(**tensors, steps=steps, dtype=dtype), u, state, mask)
        for got, want, name in zip(found, exact, ("outputs", "last state"), strict=True):
            assert got.dtype == dtype
            assert relative_error(got, want) <= tolerance, name


@pytest.mark.parametrize(
    ("length", "resets"), [(1, False), (7, True), (63, False), (64, False), (64, True), (1000, True)]
)
def test_outputs_and_each_gradient_round_no_more_than_the_definition(close_to_definition, length, resets):
    u, state = run(length)
    mask = torch.rand(2, length) < 0.1 if resets else None

    def read(u, state, **parameters):
        return diagonal_readout(prepare_readout(**parameters, steps=8, dtype=torch.float32), u, state, mask)

    close_to_definition(
        read, lambda dtype, **xs: by_states(**xs, is_first=mask), system() | {"u": u, "state": state}, 5e-6, 1e-5
    )


@pytest.mark.parametrize("resets", [False, True])
def test_each_gradient_equals_that_of_the_definition(gradients, relative_error, resets):
    tensors, (u, state) = system(), run(21)
    mask = torch.rand(2, 21) < 0.1 if resets else None
    tensors |= {"u": u, "state": state}

    def read(u, state, **parameters):
        return diagonal_readout(prepare_readout(**parameters, steps=8, dtype=torch.float64), u, state, mask)

    exact = gradients(lambda **xs: by_states(**xs, is_first=mask), tensors)
    for name, found in gradients(read, tensors).items():
        assert relative_error(found, exact[name]) <= 1e-10, name


def test_steps_equal_the_definition(relative_error):
    tensors, (u, state) = system(), run(100)
    exact, last = by_states(**tensors, u=u, state=state)
    tables, outputs = prepare_readout_step(**tensors, dtype=torch.float64), []
    for t in range(100):
        y, state = diagonal_readout_step(tables, u[:, t], state)
        outputs.append(y)
    assert relative_error(torch.stack(outputs, dim=1), exact) <= 1e-11
    assert relative_error(state, last) <= 1e-11


def test_what_happened_before_a_reset_cannot_spoil_what_follows():
    tables, (u, state) = prepare_readout(**system()), run(20)
    mask = (torch.arange(20) == 5).repeat(2, 1)
    y, last = diagonal_readout(tables, u, torch.full_like(state, float("nan")), mask)
    assert y[:, :5].isnan().all()
    assert y[:, 5:].isfinite().all()
    assert last.isfinite().all()


def test_it_starts_from_zeros_stays_in_its_precision_and_names_wrong_arguments():
    tables, (u, state) = prepare_readout(**system()), run(20)
    from_nothing, from_zeros = (diagonal_readout(tables, u, s)[0] for s in (None, torch.zeros_like(state)))
    assert torch.equal(from_nothing, from_zeros)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(diagonal_readout(tables, u)[0], from_nothing)
    with pytest.raises(ValueError, match="u \\(B, T"):
        diagonal_readout(tables, u[..., :2])
    with pytest.raises(ValueError, match="state \\(B, H, N, 2\\)"):
        diagonal_readout(tables, u, state[:, :2])
    with pytest.raises(ValueError, match="bool"):
        diagonal_readout(tables, u, state, torch.zeros(2, 20))


@pytest.mark.parametrize("resets", [False, True])
def test_inputs_need_not_be_contiguous_and_no_memory_is_left_unwritten(gradients, relative_error, poisoned, resets):
    u, state = run(21)
    tensors, mask = system() | {"u": u, "state": state}, torch.rand(2, 21) < 0.1 if resets else None
    strided = {name: torch.stack([x, x], dim=-1)[..., 0] for name, x in tensors.items()}

    def read(u, state, **parameters):
        return diagonal_readout(prepare_readout(**parameters, steps=8, dtype=torch.float64), u, state, mask)

    for a, b in zip(read(**strided), read(**tensors), strict=True):
        assert relative_error(a, b) <= 1e-14
    found, expected = gradients(read, strided), gradients(read, tensors)
    assert all(relative_error(found[name], expected[name]) <= 1e-12 for name in expected)


def test_a_step_takes_strided_inputs_and_leaves_them_alone(poisoned, relative_error):
    tables, (u, state) = prepare_readout_step(**system(), dtype=torch.float64), run(1)
    strided = [torch.stack([x, x], dim=-1)[..., 0] for x in (u[:, 0], state)]
    before = [x.clone() for x in strided]
    for a, b in zip(
        diagonal_readout_step(tables, *strided), diagonal_readout_step(tables, u[:, 0], state), strict=True
    ):
        assert relative_error(a, b) <= 1e-14
    assert all(torch.equal(x, y) for x, y in zip(strided, before, strict=True))
