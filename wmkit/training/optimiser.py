"""AdamW with each parameter's own settings, the budget, the learning rate's schedule, and the guard around a step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from wmkit.backbones import ParameterGroup
from wmkit.config import TrainConfig

SKIPS_ALLOWED = 10
"""Steps without a finite gradient, one after another, before a run gives up."""


class Budget:
    """Counts the seconds of training and says which share of the budget is spent.

    On one thread of a CPU that also makes the data (`workers` 0) a second is one of processor time: what a step would
    take on a core of its own, however busy the machine is. Else it is one of wall time.

    With `train.minutes` the clock decides, without it the steps do. A second counts while a batch is awaited or a step
    is taken; validations, checkpoints and the time before a resume do not.
    """

    def __init__(self, config: TrainConfig, workers: int) -> None:
        self.steps = config.steps if config.minutes is None else None
        """Steps that end the run; None when the clock does."""
        self.limit = None if config.minutes is None else 60.0 * config.minutes
        """Seconds that end the run; None when the steps do."""
        self.seconds = 0.0
        """Seconds of training so far, those before a resume included."""
        alone = config.device == "cpu" and config.threads == 1 and workers == 0
        self.clock = time.process_time if alone else time.perf_counter

    def share(self, step: int) -> float:
        """Share in [0, 1] that is spent after `step` steps."""
        spent = step / self.steps if self.steps else self.seconds / (self.limit or 1.0)
        return min(1.0, spent)

    def spent(self, step: int) -> bool:
        """Whether nothing is left after `step` steps."""
        return self.share(step) >= 1.0

    def state_dict(self) -> float:
        return self.seconds

    def load_state_dict(self, state: float) -> None:
        self.seconds = state


class HasGroups(Protocol):
    """What an optimiser is built for: a world model, or another module that names groups of its parameters."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All of them, as of `nn.Module`."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same with their names."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """Those with a learning rate or a weight decay of their own."""


def build_optimiser(model: HasGroups, config: TrainConfig) -> AdamW:
    """AdamW; groups from the model's `parameter_groups()` keep their own lr and weight decay, the rest follow `config`.

    Raises `ValueError` for a parameter that is in two groups or not the model's, and for a group that is no
    `ParameterGroup`, naming the group and the parameter.
    """
    hinted = model.parameter_groups()
    check_groups(hinted, model)
    claimed = {id(p) for group in hinted for p in group.parameters}
    rest = [p for p in model.parameters() if id(p) not in claimed]
    groups = [
        {
            "name": name,
            "params": [p for p in parameters if p.requires_grad],
            "lr": config.lr if lr is None else lr,
            "weight_decay": config.weight_decay if weight_decay is None else weight_decay,
        }
        for name, parameters, lr, weight_decay in (
            ("rest", rest, None, None),
            *((group.name, group.parameters, group.lr, group.weight_decay) for group in hinted),
        )
    ]
    # Fused: one pass over every parameter instead of a dozen, a third of the time on a CPU.
    return AdamW([group for group in groups if group["params"]], fused=True)


def check_groups(groups: Sequence[ParameterGroup], model: HasGroups) -> None:
    """Raise `ValueError` unless `groups` are `ParameterGroup`s of the model's own parameters, each named once."""
    names = {id(p): name for name, p in model.named_parameters()}
    owners: dict[int, str] = {}
    for group in groups:
        if not isinstance(group, ParameterGroup):
            given = f"the dict of group {group.get('name')!r}" if isinstance(group, dict) else repr(group)
            raise ValueError(
                "parameter_groups(): expected a list of wmkit.backbones.ParameterGroup, "
                f"got {given}; write ParameterGroup(name, parameters, lr=..., weight_decay=...)"
            )
        for number, parameter in enumerate(group.parameters):
            if id(parameter) not in names:
                raise ValueError(
                    f"parameter_groups(): parameter {number} of group {group.name!r}, of shape "
                    f"{tuple(parameter.shape)}, is not the model's; name parameters of the module itself"
                )
            if id(parameter) in owners:
                raise ValueError(
                    f"parameter_groups(): {names[id(parameter)]} is in group {owners[id(parameter)]!r} and again in "
                    f"{group.name!r}; leave it in one of the two"
                )
            owners[id(parameter)] = group.name


def schedule_factor(step: int, config: TrainConfig, share: float | None = None) -> float:
    """Factor of every group's peak rate at optimiser step `step` = 0, 1, ....

    warm-up: (step + 1) / warmup;  cosine: (1 + cos(pi p)) / 2 with p = (step - warmup) / (steps - warmup);  constant: 1
    `share`: of a budget of minutes that is spent, which then is p.
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    progress = (step - config.warmup) / max(1, config.steps - config.warmup) if share is None else share
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def build_schedule(optimiser: AdamW, config: TrainConfig, budget: Budget) -> LambdaLR:
    """The schedule, applied to each group's own peak rate; with a budget of minutes the clock moves it."""
    by_clock = budget.limit is not None
    return LambdaLR(optimiser, lambda step: schedule_factor(step, config, budget.share(step) if by_clock else None))


ADVICE = "Try a smaller train.lr, or train.precision=fp32."
"""What a run can do about gradients that are not finite."""


class StepGuard:
    """Clips the gradients to a global norm and steps, or changes nothing when there is no finite norm.

    One non-finite element would make AdamW turn every parameter to NaN, because clipping divides all by the norm. A
    norm of finite gradients that their precision cannot hold is measured in float64. advice: how the error ends.
    """

    def __init__(self, clip: float, allowed: int = SKIPS_ALLOWED, advice: str = ADVICE) -> None:
        self.clip, self.allowed, self.advice = clip, allowed, advice
        self.skipped = 0
        """Steps skipped in the whole run."""
        self.in_a_row = 0

    def step(self, model: nn.Module, optimiser: AdamW, where: str) -> Tensor | None:
        """Take the step and return the norm before clipping, or skip it and return None.

        Raises `ValueError`, naming `where` and the parameters, after `allowed` skips in a row.
        """
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            # on the CPU: rare, a copy needs room, and not every device has doubles
            exact = nn.utils.get_total_norm([gradient.cpu().double() for gradient in gradients])
            rounded = exact.to(norm.device, norm.dtype)
            norm = rounded if torch.isfinite(rounded) else exact
        if not torch.isfinite(norm):
            self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
            if self.in_a_row < self.allowed:
                return None
            bad = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            which = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
            raise ValueError(
                f"No finite gradient in {self.allowed} steps in a row, the last at {where}. Not finite: "
                f"{which or 'the norm of all'}. {self.advice}"
            )
        nn.utils.clip_grads_with_norm_(model.parameters(), self.clip, norm)
        optimiser.step()
        self.in_a_row = 0
        return norm

    def state_dict(self) -> dict[str, int]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
