"""S4 beyond the ten laws of tests/backbones/test_contract.py: its paths agree at full state size, trained or loaded."""

import copy

import pytest
import torch

from wmkit import tree
from wmkit.backbones import S4, Backbone, S4Config
from wmkit.backbones.s4 import StateSpace
from wmkit.backbones.ssm import blocks

PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.float64, 1e-10)])


def build(dtype=torch.float32, **numbers):
    return S4(12, S4Config(**{"input_dim": 12, "layers": 1, "feedforward": 24, **numbers})).to(dtype)


def train(backbone, steps=3, fused=False):
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=1e-2, fused=fused)
    for _ in range(steps):
        features, _ = backbone.scan(torch.randn(2, 20, 12, dtype=backbone.norm.weight.dtype), return_state=False)
        (features - 1).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()


def carried_state(backbone, rows=3):
    past = torch.randn(rows, 30, 12, dtype=backbone.norm.weight.dtype)
    return tree.detach(backbone.scan(past)[1])


def error(a, b):
    return float(((a - b).norm() / b.norm()).detach())


@PRECISIONS
@pytest.mark.parametrize("trained", [False, True])
def test_scan_with_an_incoming_state_equals_repeated_step_beyond_any_length_used_before(dtype, tolerance, trained):
    backbone = build(dtype)
    if trained:
        train(backbone)
    state, x = carried_state(backbone), torch.randn(3, 150, 12, dtype=dtype)
    with torch.no_grad():
        whole, last = backbone.scan(x, state)
        stepped, stepped_last = Backbone.scan(backbone, x, state)
    assert error(whole, stepped) <= tolerance
    for a, b in zip(last, stepped_last, strict=True):
        assert error(a, b) <= max(tolerance, 1e-10) * 2


@PRECISIONS
def test_the_convolution_equals_the_recurrence(dtype, tolerance):
    """`scan` convolves when nobody wants a state, and recurs in chunks when somebody does."""
    backbone, x = build(dtype), torch.randn(3, 130, 12, dtype=dtype)
    convolved, nothing = backbone.scan(x, return_state=False)
    assert nothing is None
    assert error(convolved, backbone.scan(x)[0]) <= tolerance
    never = torch.zeros(3, 130, dtype=torch.bool)
    assert error(convolved, backbone.scan(x, is_first=never)[0]) <= tolerance


@PRECISIONS
def test_all_paths_have_the_same_gradients(dtype, tolerance):
    backbone = build(dtype)
    x, state = torch.randn(3, 21, 12, dtype=dtype), carried_state(backbone)
    weight = torch.randn(3, 21, 12, dtype=dtype)

    def gradients(scan, **given):
        return torch.autograd.grad((scan(x, **given)[0] * weight).sum(), list(backbone.parameters()))

    def by_steps(x, **given):
        return Backbone.scan(backbone, x, **given)

    is_first = torch.rand(3, 21) < 0.1
    for given in ({}, {"state": state}, {"state": state, "is_first": is_first}):
        expected = gradients(by_steps, **given)
        for found in (gradients(backbone.scan, **given), gradients(backbone.scan, return_state=False, **given)):
            worst = max(error(a, b) for a, b in zip(found, expected, strict=True))
            assert worst <= 20 * tolerance, given.keys()


def test_steps_follow_the_parameters_whatever_changes_them():
    backbone, x = build(), torch.randn(3, 12)
    state, other = carried_state(backbone), build().state_dict()

    def agrees():
        with torch.no_grad():
            stepped = backbone.step(x.to(backbone.norm.weight.dtype), state)[0]
            scanned = backbone.scan(x.to(backbone.norm.weight.dtype)[:, None], state)[0][:, 0]
        return error(stepped, scanned) <= 5e-5

    assert agrees()
    for fused in (False, True):
        train(backbone, steps=1, fused=fused)
        assert agrees()
    backbone.load_state_dict(other)
    assert agrees()
    backbone.double()
    state = tree.map_tree(torch.Tensor.double, state)
    assert agrees()
    swapped = {name: value + 0.1 for name, value in backbone.named_parameters()}
    with torch.no_grad():
        before = backbone.step(x.double(), state)[0]
        during = torch.func.functional_call(
            _Step(backbone), {f"backbone.{k}": v for k, v in swapped.items()}, (x, state)
        )
        after = backbone.step(x.double(), state)[0]
    assert error(during, before) > 1e-3
    assert torch.equal(after, before)
    assert agrees()


class _Step(torch.nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x, state):
        return self.backbone.step(x.double(), state)[0]


@pytest.fixture
def made(monkeypatch):
    """A list that grows with every set of tables or kernel that is computed from parameters."""
    from wmkit.backbones import s4

    names = []
    for name in ("prepare_step", "prepare_scan", "dplr_kernel"):
        make = getattr(s4, name)
        monkeypatch.setattr(
            s4, name, lambda *xs, make=make, name=name, **options: names.append(name) or make(*xs, **options)
        )
    return names


def test_tables_are_made_once_in_a_prepared_block_and_at_every_call_outside(made):
    backbone, x = build(), torch.randn(3, 12)
    state = carried_state(backbone)
    with torch.no_grad():
        expected = [backbone.step(x, state)[0] for _ in range(2)]
        assert made == 4 * ["prepare_step"]
        made.clear()
        with backbone.prepared():
            assert torch.equal(backbone.step(x, state)[0], expected[0])
            with backbone.prepared():
                assert torch.equal(backbone.step(x, state)[0], expected[0])
            for length in (9, 40, 9):
                backbone.scan(torch.randn(3, length, 12), state)
                backbone.scan(torch.randn(3, length, 12), return_state=False)
            assert sorted(made) == 4 * ["dplr_kernel"] + 2 * ["prepare_scan"] + 2 * ["prepare_step"]
            copied = copy.deepcopy(backbone)
        assert all(layer.ssm.tables is None for each in (backbone, copied) for layer in each.layers[:2])


def test_a_block_left_by_an_error_keeps_nothing():
    backbone = build()
    with pytest.raises(RuntimeError, match="on the way"), backbone.prepared():
        raise RuntimeError("on the way")
    assert backbone.layers[0].ssm.tables is None


def test_gradients_in_a_prepared_block_are_those_outside_and_tables_without_them_are_not_taken_for_them():
    backbone, x = build(), torch.randn(3, 5, 12)
    state = carried_state(backbone)

    def gradients():
        after, outputs = state, []
        for t in range(5):
            y, after = backbone.step(x[:, t], after)
            outputs.append(y)
        return torch.autograd.grad(torch.stack(outputs).square().sum(), list(backbone.parameters()))

    expected = gradients()
    with backbone.prepared():
        with torch.no_grad():
            backbone.step(x[:, 0], state)
        found = gradients()
        with torch.no_grad():
            assert not backbone.step(x[:, 0], state)[0].requires_grad
    assert all(error(a, b) <= 1e-5 for a, b in zip(found, expected, strict=True))
    frozen = copy.deepcopy(backbone).requires_grad_(False)
    leaf = tree.map_tree(lambda s: s.clone().requires_grad_(), state)
    with frozen.prepared():
        frozen.step(x[:, 0], leaf)[0].sum().backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in leaf)


@PRECISIONS
@pytest.mark.parametrize("resets", [False, True])
def test_prepared_scans_give_what_others_give(dtype, tolerance, resets):
    backbone, x = build(dtype), torch.randn(3, 110, 12, dtype=dtype)
    state, is_first = carried_state(backbone), torch.rand(3, 110) < 0.05 if resets else None
    fresh, fresh_last = backbone.scan(x, state, is_first)
    with torch.inference_mode(), backbone.prepared():
        kept, last = backbone.scan(x, state, is_first)
        few, _ = backbone.scan(x[:, :9], state, None if is_first is None else is_first[:, :9])
    assert error(kept, fresh) <= tolerance
    assert error(few, fresh[:, :9]) <= tolerance
    assert max(error(a, b) for a, b in zip(last, fresh_last, strict=True)) <= 2 * tolerance


@pytest.mark.parametrize(
    ("path", "length", "given"),
    [
        ("step", 1, {}),
        ("step", 1, {"state": True, "resets": True}),
        ("convolution", 2, {"return_state": False}),
        ("convolution", 1000, {"return_state": False}),
        ("recurrence", 1000, {}),
        ("recurrence", 1000, {"state": True, "return_state": False}),
        ("recurrence", 1000, {"resets": True, "return_state": False}),
    ],
)
def test_the_path_follows_from_what_is_given_and_has_a_reason(path, length, given):
    plan = blocks.plan(length, **{"state": False, "resets": False, "return_state": True, **given})
    assert plan.path == path
    assert plan.why


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(("length", "path"), [(1, "step"), (9, "convolution")])
def test_what_is_planned_is_what_runs(length, path, gradients, monkeypatch):
    backbone, x = build(), torch.randn(2, length, 12)
    ran = []
    for owner, name, known in (
        (blocks, "fft_conv", "convolution"),
        (StateSpace, "recur", "recurrence"),
        (StateSpace, "step", "step"),
    ):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *xs, real=real, known=known: ran.append(known) or real(*xs))
    with torch.set_grad_enabled(gradients):
        backbone.scan(x, return_state=False)
        assert ran == 2 * [path]
        backbone.scan(x)
        assert ran[2:] == 2 * ["step" if length == 1 else "recurrence"]


def test_inference_mode_steps_with_parameters_born_inside_or_outside():
    outside = build()
    with torch.inference_mode():
        for backbone in (build(), outside):
            features, _ = backbone.step(torch.randn(2, 12), backbone.initial_state(2))
            assert features.isfinite().all()
    train(outside, steps=1)
    with torch.no_grad():
        x = torch.randn(2, 1, 12)
        stepped, _ = outside.step(x[:, 0], outside.initial_state(2))
        assert error(stepped, outside.scan(x)[0][:, 0]) <= 5e-5


def test_the_recurrence_stays_in_float32_under_bf16_autocast():
    backbone, x = build(), torch.randn(3, 40, 12)
    exact = backbone.scan(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        features, state = backbone.scan(x)
        stepped, state = backbone.step(x[:, 0], state)
    assert all(s.dtype == torch.float32 for s in state)
    assert error(features.float(), exact) < 0.05
    assert stepped.isfinite().all()


def test_the_system_has_its_own_learning_rate_and_no_weight_decay():
    backbone = build(ssm_lr=3e-4)
    (group,) = backbone.parameter_groups()
    assert (group.lr, group.weight_decay) == (3e-4, 0.0)
    names = {id(p): name for name, p in backbone.named_parameters()}
    ends = {names[id(p)].split("ssm.")[1] for p in group.parameters}
    assert ends == {"log_decay", "frequency", "P", "B", "log_dt"}
    assert len(group.parameters) == 5 * 2


def test_sizes_and_the_no_mlp_ablation():
    """Twelve S4 layers of 512 with GLU 512 -> 1024, six MLPs 512-2048-512 and the final norm."""
    config = S4Config.for_size("3d")
    layer = 2 * 512 + (512 * 1024 + 1024) + (32 * 2 + 2 * 64 + 512 * 64 + 2 * 512)
    mlp = 2 * 512 + (512 * 2048 + 2048) + (2048 * 512 + 512)
    count = sum(p.numel() for p in S4(512, config).parameters())
    assert count == 12 * layer + 6 * mlp + 2 * 512
    config.mlp = False
    assert sum(p.numel() for p in S4(512, config).parameters()) == 12 * layer + 2 * 512


@pytest.mark.parametrize("wrong", [{"dt_min": 0.0}, {"dt_min": 0.2, "dt_max": 0.1}, {"layers": 0}, {"state_size": 5}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected|even"):
        build(**wrong)
