"""`check_dynamics` finds each way dynamics can break the contract, by the law that forbids it."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wmkit import ModelConfig, build_world_model, tree
from wmkit.dynamics import ClockworkConfig, ClockworkDynamics
from wmkit.testing import ContractViolation, check_dynamics, examine_dynamics

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


class Healthy(ClockworkDynamics):
    def __init__(self, **options: Any) -> None:
        config = ClockworkConfig(
            **{"levels": 2, "factor": 2, "core_size": "tiny", "width": 4, "level_units": 4} | options
        )
        model = ModelConfig(latent="gaussian", latent_size=2, units=4)
        super().__init__(config, model, embed_dim=4, action_dim=2)
        self.initialise()
        self.double()


class ForgetsPhase(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        state = None if state is None else {**state, "phase": torch.zeros_like(state["phase"])}
        return super().observe(inputs, state, **kwargs)


class ForgetsContext(Healthy):
    """The clock is anchored at the end of the call instead of the context's."""

    def observe(self, inputs, state=None, **kwargs):
        if state is not None and int(state["phase"][0]) < 0:
            state = self.initial_state(*inputs.is_first.shape)
        return super().observe(inputs, state, **kwargs)


class ClaimsToBeCausal(Healthy):
    def __init__(self) -> None:
        super().__init__(windows="smoothing")
        self.causal = True


class ResetsAnywhere(Healthy):
    def _inner_resets(self, is_first, timing):
        return {t for t in is_first.any(0).nonzero().flatten().tolist() if t > 0}


class IgnoresResets(Healthy):
    def _inner_resets(self, is_first, timing):
        super()._inner_resets(is_first, timing)
        return set()


class MixesRows(Healthy):
    def observe(self, inputs, *args, **kwargs):
        return super().observe(dataclasses.replace(inputs, embed=inputs.embed - inputs.embed.mean(0)), *args, **kwargs)


class UnusedParameter(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(2))


class DetachesState(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        return super().observe(inputs, None if state is None else tree.detach(state), **kwargs)


class SavesHalfPrecision(Healthy):
    def state_dict(self, *args, **kwargs):
        return {name: x.half() for name, x in super().state_dict(*args, **kwargs).items()}


class WritesCallersState(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        result = super().observe(inputs, state, **kwargs)
        if state is not None:
            with torch.no_grad():
                state["levels"][0]["z"].mul_(0.5)
        return result


class ImaginesAfresh(Healthy):
    def imagine(self, action, *, noise, state):
        return super().imagine(action, noise=noise, state=self.initial_state(len(action)))


class RandomImagination(Healthy):
    def imagine(self, action, *, noise, state):
        return super().imagine(action, noise=torch.randn_like(noise), state=state)


class KlAtTicks(Healthy):
    """One number per tick instead of per step."""

    def kl(self, seen, balance, free_bits):
        return {
            name: term[:, :: self.clock.strides[i]]
            for i, (name, term) in enumerate(super().kl(seen, balance, free_bits).items())
        }


class RewritesParameter(Healthy):
    def observe(self, *args, **kwargs):
        with torch.no_grad():
            self.levels[0].input.bias.mul_(1.0)
        return super().observe(*args, **kwargs)


class KeepsHalfPrecision(Healthy):
    def observe(self, *args, **kwargs):
        seen, state = super().observe(*args, **kwargs)
        if torch.is_autocast_enabled("cpu"):
            state = tree.map_tree(lambda x: 1.5 * x.bfloat16() if x.is_floating_point() else x, state)
        return seen, state


BROKEN: dict[Callable[[], Healthy], int] = {
    ForgetsPhase: 1,
    ForgetsContext: 1,
    ClaimsToBeCausal: 2,
    ResetsAnywhere: 3,
    IgnoresResets: 3,
    MixesRows: 4,
    UnusedParameter: 5,
    DetachesState: 5,
    SavesHalfPrecision: 6,
    WritesCallersState: 7,
    ImaginesAfresh: 8,
    RandomImagination: 8,
    KlAtTicks: 9,
    RewritesParameter: 9,
    KeepsHalfPrecision: 10,
}


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_breach_is_found_by_its_law(cls: Callable[[], Healthy]) -> None:
    with pytest.raises(ContractViolation, match="laws of the dynamics contract") as caught:
        check_dynamics(cls(), laws=None if LONG else [BROKEN[cls]])
    assert BROKEN[cls] in caught.value.laws


def test_a_healthy_one_passes_and_is_not_changed() -> None:
    dynamics = Healthy().train()
    before = {name: tensor.clone() for name, tensor in dynamics.state_dict().items()}
    results = examine_dynamics(dynamics)
    assert [result.number for result in results] == list(range(1, 11))
    assert all(result.kept for result in results)
    assert dynamics.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in dynamics.state_dict().items())


@pytest.mark.parametrize("posterior", ["factorized", "filtering", "full"])
def test_one_level_over_a_backbone_keeps_the_laws_too(posterior: str) -> None:
    check_dynamics(build_world_model("gru", "tiny", (3, 16, 16), 2, posterior=posterior).dynamics.double())


def test_a_crash_counts_as_broken() -> None:
    class Crashes(Healthy):
        def imagine(self, action: Tensor, *, noise: Tensor | None, state: Any) -> Any:
            raise RuntimeError("out of dreams")

    with pytest.raises(ContractViolation, match="crashed: RuntimeError: out of dreams"):
        check_dynamics(Crashes(), laws=[8])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: nn.Linear(2, 2), {}, "expected an instance of a subclass of wmkit.dynamics.Dynamics"),
        (Healthy, {"laws": [0, 11]}, r"expected laws from 1 to 10, got \[0, 11\]"),
        (Healthy, {"batch_size": 1}, "batch_size >= 2"),
        (lambda: Healthy().bfloat16(), {}, "float32 or float64"),
    ],
)
def test_what_cannot_be_checked_is_refused(make: Callable[[], Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_dynamics(make(), **options)
