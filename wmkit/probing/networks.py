"""The networks of probes: a hidden layer is a linear map, LayerNorm and ELU; and the fit that trains them."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wmkit.probing.base import Probe, entries_of, width_of

NORM_EPS = 1e-3
EPSILON, CLIP = 1e-5, 200.0
"""AdamW's epsilon and the largest norm of a gradient, as published (pydreamer, Memory Maze's baselines)."""
CONSTANT_ROWS, CONSTANT_STEPS = 20_000, 60
"""Examples that the constant answer is fitted to at most, and iterations of that fit."""
ROWS_AT_ONCE = 4096
STD_FLOOR = 1e-3
"""The least deviation that a feature is divided by, as a share of the root mean square of all of them."""
LOOKS, PATIENCE, LOOKED_AT = 20, 5, 2048
"""A fit is looked at so many times on examples that it is not trained on, so many of them at most, and ends after so
many looks without a better one."""


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """ELU(LayerNorm(x W + b)) for each of the hidden widths, then x W + b: (..., inputs) -> (..., outputs).

    Without hidden layers a linear map. LayerNorm's epsilon is 1e-3.
    """
    widths = [inputs, *hidden]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.LayerNorm(after, eps=NORM_EPS), nn.ELU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """How a probe is fitted. Published are a rate of 3e-4 throughout, 1536 examples a step, and as many steps as the
    model itself was trained for; on features that are kept a fit of minutes takes a higher rate that falls.
    """

    steps: int = 1000
    """Optimiser steps."""
    rows: int = 256
    """Examples of a step, drawn from all episodes and steps."""
    rate: float = 1e-3
    """Highest learning rate: it rises for a tenth of the steps, then falls to 0 by a cosine."""
    weight_decay: float = 1e-2
    """AdamW's."""


class Head(nn.Module):
    """A probe's network on standardised features, beside the answer that is best without any.

        output = constant + scale * network((features - mean) / std, inputs)

    `scale` is the standard deviation of a target of numbers, 1 of classes; the maps from and to the network are linear
    with linear layers behind and before them, so that what can be told is what the bare network can tell.
    """

    mean: Tensor
    std: Tensor
    constant: Tensor

    def __init__(
        self,
        probe: Probe,
        hidden: Sequence[int] | None,
        features: Tensor,
        inputs: Tensor,
        target: Tensor,
        constant: Tensor,
    ) -> None:
        """hidden: None for the constant answer alone. features (N, F), inputs (N, I), target: those to be fitted to."""
        super().__init__()
        self.shape = tuple(constant.shape)
        self.register_buffer("mean", features.mean(0))
        std = features[0]
        if features.shape[1]:  # what is constant in training must not blow up where it is not
            std = features.std(0, correction=0)
            constants = std <= 1e-6 * features.abs().amax(0)
            std = torch.where(constants, 1.0, std.clamp(min=float(STD_FLOOR * std.square().mean().sqrt())))
        self.register_buffer("std", std)
        self.register_buffer("constant", constant)
        self.scale = float(target.std().clamp(min=1e-6)) if target.is_floating_point() and probe.width is None else 1.0
        outputs = int(torch.Size(self.shape).numel())
        wide = features.shape[1] + inputs.shape[1]
        self.network = None if hidden is None else mlp(wide, hidden, outputs)
        if self.network is not None:  # the fit begins at the constant answer
            last = self.network[-1]
            assert isinstance(last, nn.Linear), "it ends in a linear map"
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, features: Tensor, inputs: Tensor) -> Tensor:
        """(N, F), (N, I) -> (N, *entries, width)."""
        if self.network is None:
            return self.constant.expand(len(features), *self.shape)
        x = torch.cat([(features - self.mean) / self.std, inputs], dim=1)
        return self.constant + self.scale * self.network(x).view(-1, *self.shape)


def mean_loss(probe: Probe, output: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
    """() the mean over examples of the loss, summed over the entries that count."""
    loss = probe.loss(output, target)  # (N, *entries)
    loss = loss if counts is None else loss * counts
    return loss.flatten(1).sum(1).mean() if loss.ndim > 1 else loss.mean()


def best_constant(probe: Probe, target: Tensor, counts: Tensor | None) -> Tensor:
    """The one answer (*entries, width) with the least loss: the mean of numbers, the log-odds of classes.

    By L-BFGS, for any loss, on `CONSTANT_ROWS` examples at most.
    """
    few = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))[:CONSTANT_ROWS].to(target.device)
    some, which = target[few], None if counts is None else counts[few]
    shape = (*entries_of(target), width_of(probe, target))
    answer = torch.zeros(shape, device=target.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([answer], max_iter=CONSTANT_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = mean_loss(probe, answer.expand(len(some), *shape), some, which)
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return answer.detach()


def fit_head(
    probe: Probe,
    hidden: Sequence[int] | None,
    features: Tensor,
    inputs: Tensor,
    target: Tensor,
    counts: Tensor | None,
    constant: Tensor,
    seed: int,
    fit: Fit,
    apart: int = 0,
) -> Head:
    """Fit a probe's network by AdamW on examples drawn from `seed`; the global random state is left as it was.

    features (N, F), inputs (N, I), target (N, ...), counts (N, *entries) bool or None, all on one device. apart: the
    last so many examples are not trained on: the weights with the least loss on them are kept, among them those of the
    constant answer, where the fit begins, and it stops when they get no better.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Head(probe, hidden, features, inputs, target, constant).to(features.device)
    if head.network is None:
        return head.eval()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(head.network.parameters(), lr=fit.rate, eps=EPSILON, weight_decay=fit.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, fit.rate, total_steps=max(2, fit.steps), pct_start=0.1, cycle_momentum=False
    )
    number = len(target) - apart
    looked_at = number + torch.randperm(apart, generator=torch.Generator().manual_seed(seed))[:LOOKED_AT]
    looked_at = looked_at.to(target.device)

    @torch.no_grad()
    def loss_apart() -> float:
        output = answers(head, features[looked_at], inputs[looked_at])
        return float(mean_loss(probe, output, target[looked_at], None if counts is None else counts[looked_at]))

    every = -(-fit.steps // LOOKS)
    best, since, kept = loss_apart() if apart else 0.0, 0, copy.deepcopy(head.network.state_dict())
    for step in range(1, fit.steps + 1):
        chosen = torch.randint(number, (fit.rows,), generator=generator).to(target.device)
        output = head(features[chosen], inputs[chosen])
        loss = mean_loss(probe, output, target[chosen], None if counts is None else counts[chosen])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(head.network.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        if apart and (step % every == 0 or step == fit.steps):
            since += 1
            if (now := loss_apart()) < best:
                best, since, kept = now, 0, copy.deepcopy(head.network.state_dict())
            if since == PATIENCE:
                break
    if apart:
        head.network.load_state_dict(kept)
    return head.eval()


@torch.no_grad()
def answers(head: Head, features: Tensor, inputs: Tensor) -> Tensor:
    """(..., F), (..., I) -> (..., *entries, width), some rows at a time."""
    flat, told = features.flatten(0, -2), inputs.flatten(0, -2)
    parts = zip(torch.split(flat, ROWS_AT_ONCE), torch.split(told, ROWS_AT_ONCE), strict=True)
    return torch.cat([head(x, y) for x, y in parts]).view(*features.shape[:-1], *head.shape)
