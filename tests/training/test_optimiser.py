import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from wmkit.backbones import ParameterGroup
from wmkit.config import TrainConfig
from wmkit.training.optimiser import Budget, StepGuard, build_optimiser, build_schedule, schedule_factor


def hinted(twice: bool = False) -> Any:
    return Hinted(twice)


class Hinted(nn.Module):
    """Three parameters, one of them with settings of its own."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.frozen = (nn.Parameter(torch.ones(2)) for _ in range(3))
        self.frozen.requires_grad_(False)
        self.twice = twice

    def parameter_groups(self) -> list[ParameterGroup]:
        group = ParameterGroup("ssm", (self.b,), lr=1e-3, weight_decay=0.0)
        return [group, group] if self.twice else [group]


def test_hinted_parameters_keep_their_own_settings() -> None:
    rest, ssm = build_optimiser(hinted(), TrainConfig(lr=0.5, weight_decay=0.25)).param_groups
    assert (rest["lr"], rest["weight_decay"], len(rest["params"])) == (0.5, 0.25, 1)
    assert (ssm["name"], ssm["lr"], ssm["weight_decay"]) == ("ssm", 1e-3, 0.0)


def test_a_parameter_in_two_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="b is in group 'ssm' and again in 'ssm'"):
        build_optimiser(hinted(twice=True), TrainConfig())


def test_a_parameter_of_another_model_is_refused_by_group_and_number() -> None:
    model = hinted()
    model.b = nn.Parameter(torch.ones(2))
    stranger = hinted().parameter_groups()
    model.parameter_groups = lambda: stranger
    with pytest.raises(ValueError, match="parameter 0 of group 'ssm', of shape \\(2,\\), is not the model's"):
        build_optimiser(model, TrainConfig())


def test_a_group_written_as_a_dict_is_refused_with_the_class_to_take() -> None:
    model = hinted()
    model.parameter_groups = lambda: [{"name": "slow", "params": [model.b]}]
    with pytest.raises(ValueError, match="got the dict of group 'slow'; write ParameterGroup"):
        build_optimiser(model, TrainConfig())


def test_parameters_given_by_a_generator_are_trained_at_their_own_rate() -> None:
    model = hinted()
    model.parameter_groups = lambda: [ParameterGroup("slow", (p for p in [model.b]), lr=1e-4)]
    _, slow = build_optimiser(model, TrainConfig()).param_groups
    assert slow["lr"] == 1e-4
    assert slow["params"][0] is model.b


def test_every_group_follows_the_schedule_from_its_own_rate() -> None:
    config = TrainConfig(lr=0.5, steps=4, warmup=2)
    optimiser = build_optimiser(hinted(), config)
    schedule = build_schedule(optimiser, config, Budget(config, workers=0))
    seen = []
    for _ in range(4):
        seen.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    expected = [0.5, 1.0, 1.0, 0.5]
    assert seen == [[pytest.approx(0.5 * f), pytest.approx(1e-3 * f)] for f in expected]


def test_cosine_falls_to_zero_and_stays_there() -> None:
    config = TrainConfig(steps=100, warmup=10)
    assert schedule_factor(9, config) == schedule_factor(10, config) == 1.0
    assert schedule_factor(55, config) == pytest.approx(0.5)
    assert schedule_factor(100, config) == schedule_factor(1000, config) == pytest.approx(0.0)


@given(
    steps=st.integers(1, 500),
    warmup=st.integers(0, 500),
    step=st.integers(0, 1000),
    name=st.sampled_from(["cosine", "constant"]),
)
def test_the_factor_is_never_outside_zero_and_one(steps: int, warmup: int, step: int, name: str) -> None:
    assert 0.0 <= schedule_factor(step, TrainConfig(steps=steps, warmup=warmup, schedule=name)) <= 1.0


def model_with_gradient(value: float) -> tuple[nn.Linear, torch.optim.AdamW]:
    model = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.weight.grad[0, 0] = value
    return model, optimiser


def test_gradients_are_clipped_to_the_global_norm() -> None:
    model, optimiser = model_with_gradient(1.0)
    norm = StepGuard(clip=0.5).step(model, optimiser, "here")
    assert norm is not None
    assert float(norm) == pytest.approx(math.sqrt(8))
    clipped = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert float(clipped.norm()) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_gradient_element_leaves_every_parameter_bit_unchanged(value: float) -> None:
    model, optimiser = model_with_gradient(value)
    before = copy.deepcopy(model.state_dict())
    guard = StepGuard(clip=1.0)
    assert guard.step(model, optimiser, "here") is None
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert (guard.skipped, guard.in_a_row, optimiser.state) == (1, 1, {})


def test_too_many_skips_in_a_row_stop_with_place_and_names() -> None:
    model, optimiser = model_with_gradient(math.nan)
    guard = StepGuard(clip=1.0, allowed=3)
    guard.step(model, optimiser, "batch 0")
    guard.step(model, optimiser, "batch 1")
    with pytest.raises(ValueError, match=r"3 steps in a row, the last at batch 2. Not finite: weight\."):
        guard.step(model, optimiser, "batch 2")


def test_a_good_step_ends_the_row_of_skips() -> None:
    model, optimiser = model_with_gradient(math.nan)
    guard = StepGuard(clip=1.0)
    guard.step(model, optimiser, "here")
    assert model.weight.grad is not None
    model.weight.grad.zero_()
    guard.step(model, optimiser, "here")
    restored = StepGuard(clip=1.0)
    restored.load_state_dict(guard.state_dict())
    assert (restored.skipped, restored.in_a_row) == (1, 0)


@pytest.mark.reported(
    "numbers",
    "juliusfrost/dreamer-pytorch#82, danijar/dreamer#58, state-spaces/s4#138",
    "finite gradients of 3e19, whose norm float32 cannot hold",
    "the norm in float64, a clipped step, nothing skipped",
)
@pytest.mark.parametrize(("dtype", "value"), [(torch.float32, 3e19), (torch.float32, 3e38), (torch.float16, 6e4)])
def test_a_norm_that_overflows_is_measured_in_double_and_clipped(dtype: torch.dtype, value: float) -> None:
    model = nn.Linear(30, 20).to(dtype)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, value)
    gradients = [parameter.grad for parameter in model.parameters()]
    given = float(gradients[0].double().max())
    assert not nn.utils.get_total_norm(gradients).isfinite()
    guard = StepGuard(clip=5.0)
    norm = guard.step(model, optimiser, "here")
    assert norm is not None
    assert float(norm) == pytest.approx(given * math.sqrt(620))
    assert guard.skipped == 0
    clipped = torch.cat([gradient.double().flatten() for gradient in gradients])
    assert float(clipped.norm()) == pytest.approx(5.0, rel=2e-3)


def test_a_norm_that_fits_is_the_one_that_was_always_taken() -> None:
    model, optimiser = model_with_gradient(1e18)
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    norm = StepGuard(clip=1.0).step(model, optimiser, "here")
    assert norm is not None
    assert norm.dtype == torch.float32
    assert torch.equal(norm, nn.utils.get_total_norm(gradients))


@pytest.mark.reported(
    "numbers",
    "juliusfrost/dreamer-pytorch#82, danijar/dreamer#58, state-spaces/s4#138",
    "ten steps without a finite norm, though every gradient is finite",
    "the run stops and says that the norm of all is not finite",
)
def test_the_list_of_what_is_not_finite_is_never_empty() -> None:
    model, optimiser = model_with_gradient(1.0)
    model.double()
    guard = StepGuard(clip=1.0)
    model.weight.grad = torch.full((2, 3), 1e200, dtype=torch.float64)
    model.bias.grad = torch.zeros(2, dtype=torch.float64)
    assert [guard.step(model, optimiser, "here") for _ in range(9)] == [None] * 9
    with pytest.raises(ValueError, match=r"Not finite: the norm of all\. Try a smaller train\.lr"):
        guard.step(model, optimiser, "here")
