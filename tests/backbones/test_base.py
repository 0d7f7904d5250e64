"""What a backbone gives and may declare beside its steps: parameter groups and hooks."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wmkit import Backbone, Batch, WorldModel, build_world_model
from wmkit.backbones import ParameterGroup


def test_a_parameter_group_reads_a_generator_once_and_keeps_a_tuple() -> None:
    layer = nn.Linear(2, 3)
    group = ParameterGroup("slow", layer.parameters())
    assert list(map(id, group.parameters)) == list(map(id, layer.parameters()))
    assert isinstance(group.parameters, tuple)


@pytest.mark.parametrize(
    ("parameters", "settings", "message"),
    [
        ((), {}, "it has no parameters"),
        ([torch.ones(2)], {}, "expected parameters only, got a Tensor"),
        (["weight"], {}, "expected parameters only, got a str"),
        (nn.Parameter(torch.ones(2)), {}, "expected several parameters, got a Parameter; write"),
        (None, {}, "expected several parameters, got a NoneType"),
        ([nn.Parameter(torch.ones(2))], {"lr": -1e-3}, "lr: expected at least 0, got -0.001"),
        ([nn.Parameter(torch.ones(2))], {"lr": "1e-3"}, "lr: expected a number, got '1e-3'"),
        ([nn.Parameter(torch.ones(2))], {"lr": True}, "lr: expected a number, got True"),
        ([nn.Parameter(torch.ones(2))], {"lr": float("nan")}, "lr: expected at least 0, got nan"),
        ([nn.Parameter(torch.ones(2))], {"weight_decay": -0.1}, "weight_decay: expected at least 0"),
    ],
)
def test_a_parameter_group_refuses_what_would_not_train(
    parameters: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"ParameterGroup 'slow': {message}"):
        ParameterGroup("slow", parameters, **settings)


class Balanced(Backbone):
    """A leaky average that asks for small features, and follows its weights with a slow copy of them."""

    slow: Tensor

    def __init__(self, width: int, in_scan: bool = False) -> None:
        super().__init__()
        self.input_dim, self.feature_dim, self.in_scan = width, width, in_scan
        self.mix = nn.Linear(width, width)
        self.register_buffer("slow", torch.zeros(width, width))
        self.updates = 0

    def initial_state(self, batch_size: int) -> Tensor:
        return self.mix.weight.new_zeros(batch_size, self.feature_dim)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = 0.9 * state + self.mix(x)
        if not self.in_scan:
            self.add_loss("size", state.square().mean())
        return state, state

    def scan(self, x: Tensor, *arguments: Any, **options: Any) -> Any:
        features, state = super().scan(x, *arguments, **options)
        if self.in_scan:
            self.add_loss("size", features.square().mean())
        return features, state

    def after_update(self) -> None:
        assert not torch.is_grad_enabled()
        self.slow.lerp_(self.mix.weight, 0.1)
        self.updates += 1


def make_batch() -> Batch:
    is_first = torch.zeros(2, 6, dtype=torch.bool)
    is_first[:, 0] = True
    return Batch(
        image=torch.randint(0, 256, (2, 6, 3, 16, 16), dtype=torch.uint8),
        action=torch.randn(2, 6, 2),
        reward=torch.zeros(2, 6),
        is_first=is_first,
        is_terminal=torch.zeros_like(is_first),
        mask=torch.ones_like(is_first),
        inner_reset=False,
    )


def model_of(core: Any, **options: Any) -> WorldModel:
    return build_world_model(core, "tiny", (3, 16, 16), 2, **options)


@pytest.mark.parametrize("in_scan", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_loss_of_the_backbone_enters_the_total_and_the_metrics_under_its_name(
    in_scan: bool, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(Balanced(8, in_scan)).train(training)
    batch = make_batch()
    out = model.loss(batch)
    monkeypatch.setattr(Backbone, "add_loss", lambda *arguments: None)
    plain = model.loss(batch)
    features = model.observe(batch.image, batch.action)[0].h
    torch.testing.assert_close(out.total - plain.total, features.square().mean(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(out.metrics["size"], features.square().mean().detach())
    assert not out.metrics["size"].requires_grad
    assert "size" not in plain.metrics
    (gradient,) = torch.autograd.grad(out.total - plain.total, [model.dynamics.backbone.mix.weight])
    assert float(gradient.abs().sum()) > 0


def test_losses_of_several_backbones_are_added_up() -> None:
    class Constant(Balanced):
        def add_loss(self, name: str, value: Tensor) -> None:
            super().add_loss(name, 0 * value + 0.5)

    assert float(model_of(Constant).loss(make_batch()).metrics["size"]) == 0.5
    assert float(model_of(Constant, posterior="full").loss(make_batch()).metrics["size"]) == 1.0


def test_a_loss_leaves_no_trace_on_the_module() -> None:
    model = model_of(Balanced(8))
    before = set(vars(model.dynamics.backbone))
    model.loss(make_batch()).total.backward()
    assert set(vars(model.dynamics.backbone)) == before
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    assert all("size" in each.loss(make_batch()).metrics for each in copies)


def test_a_loss_is_dropped_where_nobody_works_one_out() -> None:
    model = model_of(Balanced(8))
    core: Balanced = model.dynamics.backbone
    core.add_loss("anything", "not even looked at")
    core.scan(torch.randn(2, 3, 8))
    _, state = model.observe(torch.rand(1, 2, 3, 16, 16), torch.zeros(1, 2, 2))
    model.imagine(torch.zeros(1, 2, 2), state)
    with pytest.raises(ValueError, match="action: expected"):  # a loss that fails stops listening, too
        model.loss(dataclasses.replace(make_batch(), action=torch.zeros(2, 6, 5)))
    core.add_loss("anything", "not even looked at")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", torch.ones(2), r"expected a scalar tensor of floating point, got shape \(2,\) of torch.float32"),
        ("size", torch.tensor(1), r"expected a scalar tensor of floating point, got shape \(\) of torch.int64"),
        ("size", 0.5, r"expected a scalar tensor of floating point, got 0.5"),
        ("kl", torch.tensor(0.5), r"add_loss\('kl', ...\): the log has a figure of that name; choose another"),
        ("loss", torch.tensor(0.5), r"add_loss\('loss', ...\): the log has a figure of that name; choose another"),
    ],
)
def test_a_loss_that_cannot_be_added_is_refused(name: str, value: Any, message: str) -> None:
    class Wrong(Balanced):
        def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            self.add_loss(name, value)
            return state, state

    with pytest.raises(ValueError, match=message):
        model_of(Wrong(8)).loss(make_batch())


def test_an_update_reaches_every_backbone_of_the_model() -> None:
    model = model_of(Balanced, posterior="full")
    model.after_update()
    cores: tuple[Any, Any] = (model.dynamics.backbone, model.dynamics.posterior_backbone)
    assert [core.updates for core in cores] == [1, 1]
    for core in cores:
        torch.testing.assert_close(core.slow, 0.1 * core.mix.weight.detach())


def test_the_laws_compare_the_state_itself_unless_told_otherwise() -> None:
    core, state = Balanced(8), torch.ones(2, 8)
    assert core.comparable_state(state) is state
    assert core.not_differentiable == ()
