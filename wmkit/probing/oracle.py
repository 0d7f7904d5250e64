"""The row `oracle`: how much of a fact a model of this kind can be made to keep, if it is trained for nothing else.

A copy of the model and the head that was fitted to its features are trained on by the probe's loss: its gradient goes
through `observe` into backbone and encoder, window by window, as in Memory Maze's supervised oracle (Pasukonis et al.
2022), which begins at initial weights. This one starts from what `observed` has, and keeps that unless other weights
are better on episodes apart, by more than the standard error of the difference: a short fit is a ceiling that is too
low, but below `observed` only by chance.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.data import EpisodeSource
from wmkit.evaluation.held_out import read_episodes
from wmkit.probing.base import Probe
from wmkit.probing.features import Gathered
from wmkit.probing.networks import CLIP, EPSILON, Fit, Head, answers, mean_loss
from wmkit.probing.readers import Reader
from wmkit.tree import State

EPISODES, WINDOW = 8, 50
"""Episodes of a step, walked from first to last in windows of so many steps, or of as many as lie between two answers;
states go from window to window, gradients do not."""
LOOKS, LOOKED_AT = 4, 8
"""How often it is looked at on episodes apart, and at how many of them at most."""
SHARE = 5
"""A probe's fit has so many times as many steps, unless a plan says otherwise: steps here are dear."""


def can_be_trained(reader: Reader) -> bool:
    """Whether there are weights to train, and a copy to do it with."""
    return reader.make is not None and any(True for module in reader.modules for _ in module.parameters())


def copied(reader: Reader, seed: int) -> Reader:
    """The same model with the same weights, which may change."""
    fresh = reader.fresh(seed)
    for ours, theirs in zip(fresh.modules, reader.modules, strict=True):
        ours.load_state_dict(theirs.state_dict())
    return fresh


def train_oracle(
    reader: Reader,
    head: Head,
    probe: Probe,
    source: EpisodeSource,
    fitted_to: Gathered,
    counts: Tensor | None,
    features_of: Callable[[Reader, Sequence[int]], Tensor],
    apart: int,
    steps: int,
    seed: int,
    fit: Fit,
) -> tuple[Reader, Head]:
    """A copy of the model and the head, trained together by AdamW on episodes drawn from `seed`.

    source, fitted_to: the training episodes, and the truth about the steps that are asked for. counts: (E S, *entries)
    bool, or None. features_of: a model's features (E, S, F) of training episodes. apart: so many of the last episodes
    are not trained on. steps: of the optimiser, one for a window. fit: its learning rate, which rises and falls as in
    `fit_head`, and the weight decay of the head; the model has none.
    """
    model, head = copied(reader, seed), copy.deepcopy(head)
    modules = [*model.modules, head]
    target, inputs, kept = fitted_to.targets[probe.name], fitted_to.inputs[probe.name], fitted_to.kept
    counts = None if counts is None else counts.view(*target.shape[:2], *counts.shape[1:])
    number, length = len(target) - apart, int(kept[-1]) + 1
    looked_at = range(number, number + min(apart, LOOKED_AT))
    window = max([WINDOW, *(kept[1:] - kept[:-1]).tolist()])
    starts = range(0, length, window)
    optimiser = torch.optim.AdamW(
        [
            {"params": [one for module in model.modules for one in module.parameters()], "weight_decay": 0.0},
            {"params": list(head.parameters()), "weight_decay": fit.weight_decay},
        ],
        lr=fit.rate,
        eps=EPSILON,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, fit.rate, total_steps=max(2, steps), pct_start=0.1, cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(seed)

    def loss_of(output: Tensor, which: Any) -> Tensor:
        """output (E, S, ...) -> () of these episodes and answers."""
        some = None if counts is None else counts[which].flatten(0, 1)
        return mean_loss(probe, output.flatten(0, 1), target[which].flatten(0, 1), some)

    @torch.no_grad()
    def losses_apart() -> Tensor:
        """(E,)"""
        output = answers(head, features_of(model, looked_at), inputs[number : looked_at.stop])
        return torch.stack([loss_of(output[i : i + 1], slice(at, at + 1)) for i, at in enumerate(looked_at)])

    def weights() -> list[dict[str, Any]]:
        return [copy.deepcopy(one.state_dict()) for one in modules]

    best, best_weights = losses_apart() if apart else torch.zeros(1), weights()
    state: State = None
    for step in range(steps):
        first = starts[step % len(starts)]
        if first == 0:
            chosen = torch.randperm(number, generator=generator)[:EPISODES]
            batch, state = read_episodes(source, chosen.tolist(), length).to(model.device), None
        asked = torch.from_numpy(((kept >= first) & (kept < first + window)).nonzero()[0])
        which = chosen.to(target.device)[:, None], asked.to(target.device)
        here, at = slice(first, first + window), torch.from_numpy(kept)[asked].to(target.device) - first
        with model.reading(gradients=True):
            seeds = torch.randint(2**31, chosen.shape, generator=generator).tolist()
            features, state = model.observe(batch.image[:, here], batch.action[:, here], seeds, state)  # (B, W, F)
            known, told = features[:, at].float(), inputs[which]
            output = head(known.flatten(0, 1), told.flatten(0, 1)).unflatten(0, known.shape[:2])
            loss = loss_of(output, which)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_([one for module in modules for one in module.parameters()], CLIP)
        optimiser.step()
        schedule.step()
        state = tree.map_tree(torch.Tensor.detach, state)
        if apart and ((step + 1) % -(-steps // LOOKS) == 0 or step + 1 == steps):
            better = best - (now := losses_apart())
            if better.mean() > better.std(correction=0) / len(better) ** 0.5:
                best, best_weights = now, weights()
    if apart:
        for one, values in zip(modules, best_weights, strict=True):
            one.load_state_dict(values)
    return model, head
