"""S5 and the LRU beyond the ten laws: their starts, their tables, their recurrence against its definition."""

import math

import pytest
import torch

from wmkit.backbones import LRU, S5, Backbone, LRUConfig, S5Config
from wmkit.backbones.ssm.hippo import legs_matrix

BOTH = pytest.mark.parametrize(("cls", "config"), [(S5, S5Config), (LRU, LRUConfig)], ids=["s5", "lru"])


def build(cls, config, dtype=torch.float32, **numbers):
    numbers = {"input_dim": 12, "layers": 1, "feedforward": 24, "state_size": 64, **numbers}
    return cls(12, config(**numbers)).to(dtype)


def error(a, b):
    return float(((a - b).norm() / b.norm()).detach())


@BOTH
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.float64, 1e-11)])
def test_scan_is_the_recurrence_of_its_definition(cls, config, dtype, tolerance):
    ssm = build(cls, config, dtype).layers[0].ssm
    a, B, C, D = (x.detach() for x in ssm.system())
    u, is_first = torch.randn(2, 50, 12, dtype=dtype), torch.rand(2, 50) < 0.1
    s, outputs = torch.zeros(2, 32, dtype=a.dtype), []
    for t in range(50):
        s = a * torch.where(is_first[:, t, None], 0, s) + u[:, t].to(a.dtype) @ B.mT
        outputs.append(2 * (s @ C.mT).real + D * u[:, t])
    y, last = ssm.scan(u, None, is_first, True)
    assert error(y, torch.stack(outputs, dim=1)) <= tolerance
    assert error(last, torch.view_as_real(s)) <= tolerance


@BOTH
def test_prepared_scans_and_steps_give_what_others_give(cls, config):
    backbone, x = build(cls, config), torch.randn(2, 30, 12)
    fresh, _ = backbone.scan(x)
    with torch.no_grad(), backbone.prepared():
        kept, _ = backbone.scan(x)
        stepped, _ = Backbone.scan(backbone, x)
        assert len(backbone.layers[0].ssm.tables) == 1
    assert max(error(kept, fresh), error(stepped, fresh)) <= 5e-5


@BOTH
def test_trained_states_stay_bounded_and_float32_under_bf16_autocast(cls, config):
    backbone, x = build(cls, config), torch.randn(3, 40, 12)
    exact = backbone.scan(x)[0]
    with torch.no_grad():
        for parameter in backbone.layers[0].ssm.system_parameters():
            assert (backbone.layers[0].ssm.system()[0].abs() < 1).all()
            parameter += torch.randn_like(parameter)
    assert (backbone.layers[0].ssm.system()[0].abs() < 1).all()
    backbone = build(cls, config)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        features, state = backbone.scan(x)
    assert all(s.dtype == torch.float32 for s in state)
    assert features.isfinite().all()
    assert exact.isfinite().all()


@pytest.mark.parametrize("blocks", [1, 4])
def test_s5_starts_as_the_normal_part_of_hippo_in_blocks(blocks):
    """V diag(Lambda) V^* over conjugate pairs is A + P P^T, and the input matrix V^* B_0 has B_0's spread."""
    size = 64 // blocks
    ssm = build(S5, S5Config, torch.float64, blocks=blocks).layers[0].ssm
    Lambda = torch.complex(-torch.exp(ssm.log_decay), ssm.frequency).detach()
    A, _ = legs_matrix(size)
    P = torch.sqrt(torch.arange(size).double() + 0.5)
    expected = torch.linalg.eigvals(A + P[:, None] * P).imag
    expected = expected[expected < 0].sort().values
    for block in Lambda.view(blocks, -1):
        torch.testing.assert_close(block.imag.sort().values, expected, rtol=1e-4, atol=1e-4)
    assert float(ssm.B.detach().square().sum(-1).mean()) == pytest.approx(1 / 12, rel=0.2)


def test_the_lru_starts_in_its_ring_with_states_of_its_inputs_variance():
    ssm = build(LRU, LRUConfig, state_size=2000, r_min=0.5, r_max=0.9).layers[0].ssm
    a = ssm.system()[0].detach()
    assert 0.5 <= float(a.abs().min()) < float(a.abs().max()) <= 0.9
    assert 0 <= float(a.angle().min()) < float(a.angle().max()) <= math.pi / 10 + 1e-6
    torch.testing.assert_close(torch.exp(ssm.log_gamma), torch.sqrt(1 - a.abs().square()))
    _, last = ssm.scan(torch.randn(50, 100, 12), None, None, True)
    assert float(last.detach().square().sum(-1).mean()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("cls", "config", "names"),
    [
        (S5, S5Config, {"log_decay", "frequency", "B", "log_dt"}),
        (LRU, LRUConfig, {"log_decay", "log_phase", "log_gamma", "B"}),
    ],
)
def test_the_system_has_its_own_learning_rate_and_no_weight_decay(cls, config, names):
    backbone = build(cls, config, ssm_lr=3e-4)
    (group,) = backbone.parameter_groups()
    assert (group.lr, group.weight_decay) == (3e-4, 0.0)
    of = {id(p): name for name, p in backbone.named_parameters()}
    assert {of[id(p)].split("ssm.")[1] for p in group.parameters} == names


@pytest.mark.parametrize(
    ("cls", "config", "wrong"),
    [
        (S5, S5Config, {"blocks": 5}),
        (S5, S5Config, {"discretisation": "euler"}),
        (S5, S5Config, {"dt_min": 1.0}),
        (LRU, LRUConfig, {"r_max": 1.0}),
        (LRU, LRUConfig, {"max_phase": 7.0}),
        (LRU, LRUConfig, {"layers": 0}),
    ],
)
def test_impossible_numbers_are_refused(cls, config, wrong):
    with pytest.raises(ValueError, match=f"{config.__name__}: expected"):
        build(cls, config, **wrong)
