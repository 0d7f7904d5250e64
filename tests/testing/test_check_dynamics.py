"""`check_dynamics` finds each way dynamics can break the contract, by the law that forbids it."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wmkit import ModelConfig, build_world_model, tree
from wmkit.dynamics import ClockworkConfig, ClockworkDynamics, Inputs
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


class ForgetsStateWhereNoneIsReturned(Healthy):
    def observe(self, inputs, state=None, *, return_state=True):
        return super().observe(inputs, state if return_state else None, return_state=return_state)


def without_inner_resets(inputs: Inputs, start: int = 1) -> Inputs:
    is_first = inputs.is_first.clone()
    is_first[:, start:] = False
    return dataclasses.replace(inputs, is_first=is_first)


class ForgetsBeyondChunk128(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        if inputs.embed.shape[1] <= 128:
            return super().observe(inputs, state, **kwargs)
        parts = {name: getattr(inputs, name) for name in ("embed", "action", "is_first", "noise")}
        first, _ = super().observe(Inputs(**{name: x[:, :128] for name, x in parts.items()}), state)
        rest, last = super().observe(Inputs(**{name: x[:, 128:] for name, x in parts.items()}), None, **kwargs)
        whole, _ = super().observe(inputs, state)
        return dataclasses.replace(whole, h=torch.cat([first.h, rest.h], 1)), last


class CutsGradientsOfLongCalls(Healthy):
    """The right numbers; but in train() no gradient passes step 64."""

    def observe(self, inputs, state=None, **kwargs):
        seen, last = super().observe(inputs, state, **kwargs)
        if self.training and inputs.embed.shape[1] > 64:
            early = dataclasses.replace(inputs, embed=inputs.embed.detach(), action=inputs.action.detach())
            h = super().observe(early, None if state is None else tree.detach(state))[0].h
            seen = dataclasses.replace(seen, h=torch.cat([seen.h[:, :64], h[:, 64:]], 1))
        return seen, last


class LosesResetsWhereNoStateIsReturned(Healthy):
    def observe(self, inputs, state=None, *, return_state=True):
        inputs = inputs if return_state else without_inner_resets(inputs)
        return super().observe(inputs, state, return_state=return_state)


class LosesResetsBeyondStep32(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        return super().observe(without_inner_resets(inputs, 32), state, **kwargs)


class LosesResetsBeyondStep100(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        return super().observe(without_inner_resets(inputs, 100), state, **kwargs)


class LosesResetsWhereAllRowsBegin(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        begin = bool(inputs.is_first[:, 0].all())
        return super().observe(without_inner_resets(inputs) if begin else inputs, state, **kwargs)


class LosesResetOfTheLastRow(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        is_first = inputs.is_first.clone()
        is_first[-1, 1:] = False
        return super().observe(dataclasses.replace(inputs, is_first=is_first), state, **kwargs)


class KeepsNaNOfTheStateAfterALaterReset(Healthy):
    """A state that is multiplied by zero where it no longer counts."""

    def observe(self, inputs, state=None, **kwargs):
        seen, last = super().observe(inputs, state, **kwargs)
        if state is None:
            return seen, last
        kept = (~inputs.is_first[:, :1] & (inputs.is_first.cumsum(1) > 0)).unsqueeze(-1)
        past = torch.where(kept, 0 * state["levels"][0]["z"][:, None, :1], 0)
        return dataclasses.replace(seen, h=seen.h + past), last


class ReadsResetsAsTheyLie(Healthy):
    def observe(self, inputs, *args, **kwargs):
        return super().observe(dataclasses.replace(inputs, is_first=in_memory(inputs.is_first)), *args, **kwargs)


def in_memory(x: Tensor) -> Tensor:
    return x if x.storage_offset() else x.as_strided(x.shape, (x.shape[1], 1))


class NeedsContiguousResets(Healthy):
    def observe(self, inputs, *args, **kwargs):
        inputs.is_first.view(-1)
        return super().observe(inputs, *args, **kwargs)


class MixesSixteenRows(Healthy):
    def observe(self, *args, **kwargs):
        seen, last = super().observe(*args, **kwargs)
        return (dataclasses.replace(seen, h=seen.h.flip(0)) if len(seen.h) == 16 else seen), last


class ImaginesRowsBeyond32AsTheFirst(Healthy):
    def imagine(self, action, *, noise, state):
        h, z, last = super().imagine(action, noise=noise, state=state)
        rows = torch.arange(len(h))
        return h[rows.where(rows < 32, 0)], z, last


class ImaginesFromDetachedStateInTrain(Healthy):
    def imagine(self, action, *, noise, state):
        return super().imagine(action, noise=noise, state=tree.detach(state) if self.training else state)


class ImaginesFromOneDetachedLeaf(Healthy):
    def imagine(self, action, *, noise, state):
        bottom, *upper = state["levels"]
        state = {**state, "levels": [{**bottom, "z": bottom["z"].detach()}, *upper]}
        return super().imagine(action, noise=noise, state=state)


class ImaginesFromDetachedActions(Healthy):
    """No policy can be trained through it."""

    def imagine(self, action, *, noise, state):
        return super().imagine(action.detach(), noise=noise, state=state)


class ImaginesWithoutGradientsWhereFrozen(Healthy):
    def imagine(self, action, *, noise, state):
        trained = any(parameter.requires_grad for parameter in self.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
            return super().imagine(action, noise=noise, state=state)


class DetachesEmbeddings(Healthy):
    """No encoder can be trained through it."""

    def observe(self, inputs, *args, **kwargs):
        return super().observe(dataclasses.replace(inputs, embed=inputs.embed.detach()), *args, **kwargs)


class ForgetsInLongDreams(Healthy):
    def imagine(self, action, *, noise, state):
        h, z, last = super().imagine(action, noise=noise, state=state)
        if action.shape[1] > 32:
            late = super().imagine(action[:, 32:], noise=noise[:, 32:], state=state)
            h, z, last = torch.cat([h[:, :32], late[0]], 1), torch.cat([z[:, :32], late[1]], 1), late[2]
        return h, z, last


class CutsGradientsOfLongDreams(Healthy):
    def imagine(self, action, *, noise, state):
        parts = []
        for start in range(0, action.shape[1], 32):
            steps = slice(start, start + 32)
            parts.append(super().imagine(action[:, steps], noise=noise[:, steps], state=state))
            state = tree.detach(parts[-1][2])
        return torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts], 1), parts[-1][2]


class KeepsATableOfItsFirstCall(Healthy):
    """Made under `torch.inference_mode`, it cannot be trained with."""

    table = None

    def observe(self, *args, **kwargs):
        seen, last = super().observe(*args, **kwargs)
        if self.table is None:
            self.table = torch.ones_like(seen.h[:1, :1])
        return dataclasses.replace(seen, h=seen.h * self.table), last


class NoGradientUnderAutocast(Healthy):
    def observe(self, *args, **kwargs):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")):
            return super().observe(*args, **kwargs)


class Kernel(torch.autograd.Function):
    """Multiplies by a float32 matrix, and forgets what autocast did on the way there."""

    @staticmethod
    def forward(ctx, x):
        ctx.matrix = torch.eye(x.shape[-1])
        return x.bfloat16() if torch.is_autocast_enabled("cpu") else x

    @staticmethod
    def backward(ctx, gradient):
        return gradient @ ctx.matrix.to(gradient.dtype if gradient.dtype != torch.bfloat16 else torch.float32)


class BackwardCrashesUnderAutocast(Healthy):
    def observe(self, *args, **kwargs):
        seen, last = super().observe(*args, **kwargs)
        return dataclasses.replace(seen, h=Kernel.apply(seen.h)), last


class NeedsEmbeddingsInItsOwnPrecision(Healthy):
    def observe(self, inputs, *args, **kwargs):
        weight = self.levels[0].input.weight
        with torch.autocast("cpu", enabled=False):
            torch.nn.functional.linear(inputs.embed, weight.new_zeros(1, inputs.embed.shape[-1]))
        return super().observe(inputs, *args, **kwargs)


class ImaginesActionsInItsOwnPrecision(Healthy):
    def imagine(self, action, *, noise, state):
        with torch.autocast("cpu", enabled=False):
            torch.nn.functional.linear(action, self.levels[0].input.weight.new_zeros(1, action.shape[-1]))
        return super().imagine(action, noise=noise, state=state)


class LosesLateResetsUnderAutocast(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        late = torch.is_autocast_enabled("cpu")
        return super().observe(without_inner_resets(inputs, 32) if late else inputs, state, **kwargs)


class ImaginesInSixteenBitsUnderAutocast(Healthy):
    def imagine(self, action, *, noise, state):
        h, z, last = super().imagine(action, noise=noise, state=state)
        if torch.is_autocast_enabled("cpu"):
            last = tree.map_tree(lambda x: (1.5 * x).bfloat16() if x.is_floating_point() else x, last)
        return h, z, last


BROKEN: dict[Callable[[], Healthy], int] = {
    ForgetsPhase: 1,
    ForgetsContext: 1,
    ForgetsStateWhereNoneIsReturned: 1,
    ForgetsBeyondChunk128: 1,
    CutsGradientsOfLongCalls: 1,
    ClaimsToBeCausal: 2,
    ResetsAnywhere: 3,
    IgnoresResets: 3,
    LosesResetsWhereNoStateIsReturned: 3,
    LosesResetsBeyondStep32: 3,
    LosesResetsBeyondStep100: 3,
    LosesResetsWhereAllRowsBegin: 3,
    LosesResetOfTheLastRow: 3,
    KeepsNaNOfTheStateAfterALaterReset: 3,
    ReadsResetsAsTheyLie: 3,
    NeedsContiguousResets: 3,
    MixesRows: 4,
    MixesSixteenRows: 4,
    ImaginesRowsBeyond32AsTheFirst: 4,
    UnusedParameter: 5,
    DetachesState: 5,
    ImaginesFromDetachedStateInTrain: 5,
    ImaginesFromOneDetachedLeaf: 5,
    ImaginesFromDetachedActions: 5,
    ImaginesWithoutGradientsWhereFrozen: 5,
    DetachesEmbeddings: 5,
    SavesHalfPrecision: 6,
    WritesCallersState: 7,
    ImaginesAfresh: 8,
    RandomImagination: 8,
    ForgetsInLongDreams: 8,
    CutsGradientsOfLongDreams: 8,
    KlAtTicks: 9,
    RewritesParameter: 9,
    KeepsATableOfItsFirstCall: 9,
    KeepsHalfPrecision: 10,
    NoGradientUnderAutocast: 10,
    BackwardCrashesUnderAutocast: 10,
    NeedsEmbeddingsInItsOwnPrecision: 10,
    ImaginesActionsInItsOwnPrecision: 10,
    LosesLateResetsUnderAutocast: 10,
    ImaginesInSixteenBitsUnderAutocast: 10,
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


@pytest.mark.parametrize("name", ["s4", "s5"])
def test_a_category_that_rounding_flips_is_no_fault(name: str) -> None:
    """At these weights it flips one: what follows is another course of things, by a quarter off in L2."""
    torch.manual_seed(0)
    model = build_world_model(name, "tiny", (3, 16, 16), 2, posterior="filtering")
    assert [breach for law in examine_dynamics(model.dynamics, laws=[10]) for breach in law.breaches] == []
