"""AdamW with each parameter's own settings, the learning rate's schedule, and the guard around a step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from wmkit.backbones import ParameterGroup
from wmkit.config import TrainConfig
from wmkit.world_model import WorldModel


def build_optimiser(model: WorldModel, config: TrainConfig) -> AdamW:
    """AdamW; groups from the model's `parameter_groups()` keep their own lr and weight decay, the rest follow `config`.

    Raises `ValueError` when two groups claim one parameter.
    """
    hinted = model.parameter_groups()
    claimed = [id(p) for group in hinted for p in group.parameters]
    if len(claimed) != len(set(claimed)):
        raise ValueError(f"parameter_groups(): a parameter is in two of {[group.name for group in hinted]}")
    rest = tuple(p for p in model.parameters() if p.requires_grad and id(p) not in set(claimed))
    groups = [_group(group, config) for group in (ParameterGroup("rest", rest), *hinted)]
    return AdamW([group for group in groups if group["params"]])


def _group(group: ParameterGroup, config: TrainConfig) -> dict[str, object]:
    return {
        "name": group.name,
        "params": [p for p in group.parameters if p.requires_grad],
        "lr": config.lr if group.lr is None else group.lr,
        "weight_decay": config.weight_decay if group.weight_decay is None else group.weight_decay,
    }


def schedule_factor(step: int, config: TrainConfig) -> float:
    """Factor of every group's peak rate at optimiser step `step` = 0, 1, ....

    warm-up: (step + 1) / warmup;  cosine: (1 + cos(pi p)) / 2 with p = (step - warmup) / (steps - warmup);  constant: 1
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def build_schedule(optimiser: AdamW, config: TrainConfig) -> LambdaLR:
    """The schedule, applied to each group's own peak rate."""
    return LambdaLR(optimiser, lambda step: schedule_factor(step, config))


def guarded_step(model: nn.Module, optimiser: AdamW, clip: float) -> tuple[Tensor, bool]:
    """Clip the gradients to a global norm of `clip` and step; without a finite norm change nothing.

    Returns the norm before clipping and whether the step was taken. One non-finite element would make AdamW turn every
    parameter to NaN, because clipping divides all gradients by the norm.
    """
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    taken = bool(torch.isfinite(norm))
    if taken:
        optimiser.step()
    return norm, taken


def non_finite_gradients(model: nn.Module) -> list[str]:
    """Names of the parameters whose gradient is not finite: to be read before the gradients are clipped or cleared."""
    return [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
