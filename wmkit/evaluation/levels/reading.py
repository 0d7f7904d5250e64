"""A hierarchy observes clips, some levels on their priors, and imagines on: the two moves of every analysis."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.dynamics import ClockworkDynamics, Inputs
from wmkit.dynamics.clockwork.dynamics import HierarchyObserved
from wmkit.evaluation.rollout import check_lengths, groups_of_rows, rows_of
from wmkit.tree import State
from wmkit.world_model import WorldModel

PriorLevels = tuple[int, ...]
"""Levels that see no frames, in rising order."""


def hierarchy_of(model: WorldModel) -> ClockworkDynamics:
    """The model's levels; raises `ValueError` for a model without."""
    if not isinstance(model.dynamics, ClockworkDynamics):
        raise ValueError(
            f"Levels are those of a clockwork hierarchy, this model has a {type(model.dynamics).__name__}: "
            "train one with backbone=clockwork (backbone.levels=1 is the RSSM)"
        )
    return model.dynamics


def level_subsets(levels: int) -> list[PriorLevels]:
    """Every subset of the levels 1..levels, from none to all."""
    numbers = range(1, levels + 1)
    return [chosen for size in range(levels + 1) for chosen in itertools.combinations(numbers, size)]


def name_of(prior_levels: PriorLevels, levels: int) -> str:
    """`all see`, `level 2 on its prior`, `levels 1, 3 on their priors`, `none sees`."""
    if len(prior_levels) in (0, levels):
        return "none sees" if prior_levels else "all see"
    numbers = ", ".join(map(str, prior_levels))
    return f"levels {numbers} on their priors" if len(prior_levels) > 1 else f"level {numbers} on its prior"


def groups_of(batch: Batch, model: WorldModel, length: int) -> Iterator[Batch]:
    """Some rows at a time, on the model's device, cut to their first `length` steps: bounds memory."""
    check_lengths(batch, 2, length - 2)
    batch = batch.window(0, length)
    for rows in groups_of_rows(batch):
        yield rows_of(batch, rows).to(model.device)


def observe_levels(
    model: WorldModel,
    batch: Batch,
    noise: Tensor,
    *,
    prior_levels: Collection[int] = (),
    state: State | None = None,
    context: int | None = None,
) -> tuple[HierarchyObserved, State]:
    """Read all frames of `batch` (B, T) on noise (B, T, noise_dim), from `state` or from an episode's beginning.

    context: the number of frames after which imagination goes on; then they are read from the initial state whose
    clock stands right at that frame.
    """
    dynamics = hierarchy_of(model)
    if context is not None:
        state = dynamics.initial_state(batch.shape[0], context)
    return dynamics.observe(model.encode(batch, noise), state, prior_levels=prior_levels)


def imagine_levels(model: WorldModel, action: Tensor, noise: Tensor, state: State) -> HierarchyObserved:
    """Imagine along action (B, H, A) and keep what every level expected: `imagine` gives samples only."""
    dynamics = hierarchy_of(model)
    lead = action.shape[:2]
    no_frames = action.new_zeros(*lead, dynamics.embed_dim)
    is_first = torch.zeros(lead, dtype=torch.bool, device=action.device)
    every = range(1, len(dynamics.levels) + 1)
    inputs = Inputs(embed=no_frames, action=action, is_first=is_first, noise=noise, inner_reset=False)
    seen, _ = dynamics.observe(inputs, state, return_state=False, prior_levels=every)
    return seen
