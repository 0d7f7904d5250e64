"""S4D beyond the ten laws: its paths agree for every start and discretisation, trained or loaded."""

import math

import pytest
import torch

from wmkit import tree
from wmkit.backbones import S4D, Backbone, S4DConfig
from wmkit.backbones.s4d import eigenvalues

PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.float64, 1e-10)])
KINDS = pytest.mark.parametrize(
    ("init", "discretisation"), [("legs", "zoh"), ("lin", "zoh"), ("inv", "zoh"), ("legs", "bilinear")]
)


def build(dtype=torch.float32, **numbers):
    return S4D(12, S4DConfig(**{"input_dim": 12, "layers": 1, "feedforward": 24, **numbers})).to(dtype)


def train(backbone, steps=2):
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=1e-2)
    for _ in range(steps):
        features, _ = backbone.scan(torch.randn(2, 20, 12, dtype=backbone.norm.weight.dtype), return_state=False)
        (features - 1).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()


def error(a, b):
    return float(((a - b).norm() / b.norm()).detach())


@PRECISIONS
@KINDS
def test_all_paths_agree_after_training_and_beyond_the_trained_length(dtype, tolerance, init, discretisation):
    backbone = build(dtype, init=init, discretisation=discretisation)
    train(backbone)
    x = torch.randn(3, 80, 12, dtype=dtype)
    stepped, last = Backbone.scan(backbone, x)
    convolved, _ = backbone.scan(x, return_state=False)
    recurred, recurred_last = backbone.scan(x)
    with torch.no_grad(), backbone.prepared():
        kept, kept_last = backbone.scan(x)
        masked, masked_last = backbone.scan(x, is_first=torch.zeros(3, 80, dtype=torch.bool))
    assert max(error(y, stepped) for y in (convolved, recurred, kept, masked)) <= tolerance
    for found in (recurred_last, kept_last, masked_last):
        assert max(error(a, b) for a, b in zip(found, last, strict=True)) <= 2 * tolerance


@PRECISIONS
def test_all_paths_have_the_same_gradients(dtype, tolerance):
    backbone = build(dtype)
    x, is_first = torch.randn(3, 21, 12, dtype=dtype), torch.rand(3, 21) < 0.1
    state = tree.detach(backbone.scan(torch.randn(3, 30, 12, dtype=dtype))[1])
    weight = torch.randn(3, 21, 12, dtype=dtype)

    def gradients(scan, **given):
        return torch.autograd.grad((scan(x, **given)[0] * weight).sum(), list(backbone.parameters()))

    for given in ({}, {"state": state}, {"state": state, "is_first": is_first}):
        expected = gradients(lambda x, **given: Backbone.scan(backbone, x, **given), **given)
        for found in (gradients(backbone.scan, **given), gradients(backbone.scan, return_state=False, **given)):
            assert max(error(a, b) for a, b in zip(found, expected, strict=True)) <= 20 * tolerance, given.keys()


def test_prepared_scans_and_steps_give_what_others_give_and_follow_the_parameters():
    backbone, x = build(), torch.randn(2, 100, 12)
    other = build().state_dict()
    for change in (lambda: None, lambda: train(backbone), lambda: backbone.load_state_dict(other), backbone.double):
        change()
        x = x.to(backbone.norm.weight.dtype)
        fresh, _ = backbone.scan(x)
        with torch.no_grad(), backbone.prepared():
            kept, _ = backbone.scan(x)
            stepped, _ = Backbone.scan(backbone, x[:, :9])
            assert len(backbone.layers[0].ssm.tables) == 2
        assert error(kept, fresh) <= 5e-5
        assert error(stepped, fresh[:, :9]) <= 5e-5


def test_zero_order_hold_is_the_exact_answer_to_constant_inputs():
    """s' = A s + u, sampled: s(n dt) = (e^{n dt A} - 1) / A for u = 1 from rest."""
    ssm = build(torch.float64, discretisation="zoh", state_size=6).layers[0].ssm
    log_a, b, _ = ssm.system()
    A = torch.complex(-torch.exp(ssm.log_decay), ssm.frequency)
    states = sum(torch.exp(k * log_a) * b for k in range(5))
    assert torch.allclose(states, (torch.exp(5 * log_a) - 1) / A)


def test_the_bilinear_kernel_is_that_of_s4_without_its_low_rank_part():
    from wmkit_kernels import reference

    ssm = build(torch.float64, discretisation="bilinear", state_size=6).layers[0].ssm
    A = torch.complex(-torch.exp(ssm.log_decay), ssm.frequency)[0]
    C = torch.view_as_complex(ssm.C)
    dense = reference.dplr_kernel(A, torch.zeros_like(A), torch.ones_like(A), C, torch.exp(ssm.log_dt), 30)
    assert error(ssm.kernel(30), dense) <= 1e-10


@pytest.mark.parametrize(
    ("init", "first", "last"), [("lin", 0, 31 * math.pi), ("inv", 64 / math.pi * 63, 64 / math.pi * (64 / 63 - 1))]
)
def test_eigenvalues_at_the_start(init, first, last):
    found = eigenvalues(init, 64)
    assert (found.real == -0.5).all()
    assert [float(found.imag[0]), float(found.imag[-1])] == pytest.approx([first, last])


def test_the_recurrence_stays_in_float32_under_bf16_autocast():
    backbone, x = build(), torch.randn(3, 40, 12)
    exact = backbone.scan(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        features, state = backbone.scan(x)
    assert all(s.dtype == torch.float32 for s in state)
    assert error(features.float(), exact) < 0.05


@pytest.mark.parametrize("wrong", [{"init": "hippo"}, {"discretisation": "euler"}, {"dt_min": 0.0}, {"state_size": 5}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="S4DConfig: expected"):
        build(**wrong)
