"""A trained hierarchy with held-out clips for it, and the moves of every analysis: levels observe, and imagine on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.config import RunConfig
from wmkit.data import World
from wmkit.data.episode import Episode
from wmkit.dynamics import ClockworkDynamics, Inputs
from wmkit.dynamics.clockwork.dynamics import HierarchyObserved
from wmkit.evaluation.digits.probe import CLIP_LENGTH, Probe, fit_frame_probe
from wmkit.evaluation.digits.truth import KEYS
from wmkit.evaluation.held_out import held_out, other_episodes, training_frames, training_of, whole_episodes
from wmkit.evaluation.rollout import check_lengths, groups_of_rows, rows_of
from wmkit.evaluation.run import device_for
from wmkit.loading import load, run_config
from wmkit.training.run_folder import check_local_data
from wmkit.tree import State
from wmkit.world_model import WorldModel

PriorLevels = tuple[int, ...]
"""Levels that see no frames, in rising order."""
CLIPS = 100
"""Held-out clips where nobody says how many, as published."""
CONTEXT, QUERY = "context", "query"
"""Parts of a clip: what is observed, and what is imagined after it."""


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A run, ready to be looked at."""

    config: RunConfig
    model: WorldModel
    episodes_from: str | World | None
    """A world or its name, or an archive of split `test`; None: the run's own test episodes."""

    @classmethod
    def of(cls, run: Path, checkpoint: str, episodes_from: str | World | None) -> LoadedRun:
        """Loaded from its folder."""
        config = run_config(run)
        check_local_data(run, config.world)
        return cls(config, load(run, checkpoint, device=device_for(config)), episodes_from)

    @property
    def world(self) -> str:
        """The name of the run's world, or of its archive."""
        return self.config.label

    @property
    def title(self) -> str:
        """What a figure calls it."""
        strides = ", ".join(map(str, hierarchy_of(self.model).clock.strides))
        return f"{self.world}, levels that tick every {strides} frames"

    def clips(self, count: int | None, length: int, keys: Sequence[str] = ()) -> Batch:
        """Held-out clips, `keys` as extras; of count None `CLIPS`, or all there are."""
        wanted, fewer = count or CLIPS, count is None
        return whole_episodes(self.config, self.model, "test", wanted, length, self.episodes_from, keys, or_fewer=fewer)

    @property
    def has_digits(self) -> bool:
        """Whether its clips tell the truth about digits."""
        return set(KEYS) <= self.first_clip.keys()

    @functools.cached_property
    def first_clip(self) -> Episode:
        """The first held-out one, as its source gives it."""
        return held_out(self.config, self.episodes_from).episode(0)

    def training_frames(self, length: int) -> Tensor | None:
        """Frames of the run's training episodes, for a mean image; None where the clips are from elsewhere."""
        return None if self.episodes_from is not None else training_frames(self.config, self.model, length)

    def digit_clips(self, count: int | None, length: int) -> Batch:
        """Held-out clips with the truth about their digits; raises `ValueError` for a world without."""
        if missing := sorted(set(KEYS) - self.first_clip.keys()):
            name, _ = other_episodes(Path(), self.config, self.episodes_from)
            raise ValueError(
                f"{name} does not tell {', '.join(missing)}; which digits a level holds can only be measured in a "
                "world of moving digits"
            )
        return self.clips(count, length, KEYS)

    def probe(self, seed: int) -> Probe:
        """What reads digits from frames, fitted to true ones of the training split."""
        return fit_frame_probe(training_of(self.config)(CLIP_LENGTH), seed=seed)


def hierarchy_of(model: WorldModel) -> ClockworkDynamics:
    """The model's levels; raises `ValueError` for a model without."""
    if not isinstance(model.dynamics, ClockworkDynamics):
        raise ValueError(
            f"Levels are those of a clockwork hierarchy, this model has a {type(model.dynamics).__name__}: "
            "train one with backbone=clockwork (backbone.levels=1 is the RSSM)"
        )
    return model.dynamics


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


def decoded_frames(
    model: WorldModel, group: Batch, noise: Tensor, *, context: int, seen: int, prior_levels: PriorLevels
) -> Tensor:
    """Frames (B, seen + H, C, H, W) in [0, 1]: the last of a context that some levels did not see, then imagined."""
    passed, state = observe_levels(
        model, group.window(0, context), noise[:, :context], prior_levels=prior_levels, context=context
    )
    future = model.imagine(group.action[:, context:], state, noise=noise[:, context:]).features
    features = torch.cat([passed.features[:, context - seen :], future], dim=1)
    return model.decode(features).float().clamp(0, 1)
