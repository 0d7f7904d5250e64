"""Which level holds what? Some see the context, some do not, and the ground truth judges what is imagined from there.

A level that saw nothing of the context is reset: it followed its prior (TALD, section 4.6). What stays right in the
frames the other levels hold; what goes wrong it held, or misled the levels below about, for it tells them what it made
up. The papers look at pictures; here digits are recognised and located.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.intervals import Estimate, Floats, normal, normal_curve
from wmkit.evaluation.levels.reading import PriorLevels, groups_of, hierarchy_of, level_subsets, name_of, observe_levels
from wmkit.evaluation.record import Curve
from wmkit.evaluation.rollout import evaluating
from wmkit.world_model import WorldModel

Judge = Callable[[Tensor, Batch], Mapping[str, Tensor]]
"""Frames (B, T, C, H, W) in [0, 1] and what was to be seen, with its ground truth -> measures (B, T) by name."""


SEEN = 10
"""Last frames of the context that are judged too, as the model reconstructs them."""
IN_CONTEXT, IMAGINED = "in the context", "imagined"


@dataclasses.dataclass(frozen=True)
class LevelReset:
    """What was measured, for every subset of levels on their priors."""

    levels: int
    context: int
    seen: int
    """How many of the context's last frames come first in every measure."""
    measures: dict[PriorLevels, dict[str, Floats]]
    """(N, seen + H) by the levels that were on their priors and the name of the measure."""

    @property
    def horizon(self) -> int:
        """The number of imagined steps, H."""
        return next(iter(self.measures[()].values())).shape[1] - self.seen

    @property
    def steps(self) -> range:
        """Frames after the context's last one: up to 0 in the context, from 1 on imagined."""
        return range(1 - self.seen, self.horizon + 1)

    @property
    def names(self) -> list[str]:
        """Of the measures."""
        return list(self.measures[()])

    def over(self, prior_levels: PriorLevels, name: str, last: int) -> dict[str, Estimate]:
        """Mean over the context's frames, and over the first `last` imagined ones; interval over clips."""
        values = self.measures[prior_levels][name]
        return {
            IN_CONTEXT: normal(values[:, : self.seen].mean(1)),
            IMAGINED: normal(values[:, self.seen : self.seen + min(last, self.horizon)].mean(1)),
        }

    def curve(self, prior_levels: PriorLevels, name: str) -> Curve:
        """Mean and 95 % interval over clips at every step."""
        values = self.measures[prior_levels][name]
        return Curve(np.array(self.steps, float), *normal_curve(values, np.ones(values.shape, bool)))

    def to_json(self, last: int) -> dict[str, Any]:
        """Plain values: means over both parts, and the curves."""
        return {
            "context": self.context,
            "horizon": self.horizon,
            "context_frames_judged": self.seen,
            "imagined_frames_in_mean": min(last, self.horizon),
            "clips": len(self.measures[()][self.names[0]]),
            "step": list(self.steps),
            "conditions": [
                {
                    "name": name_of(prior_levels, self.levels),
                    "prior_levels": list(prior_levels),
                    **self._entry(prior_levels, last),
                }
                for prior_levels in self.measures
            ],
        }

    def _entry(self, prior_levels: PriorLevels, last: int) -> dict[str, Any]:
        return {
            name: {
                **{part: dataclasses.asdict(value) for part, value in self.over(prior_levels, name, last).items()},
                "curve": {key: values.tolist() for key, values in self.curve(prior_levels, name)._asdict().items()},
            }
            for name in self.measures[prior_levels]
        }


def level_reset(
    model: WorldModel, batch: Batch, judge: Judge, *, context: int, horizon: int, seed: int = 0
) -> LevelReset:
    """Read contexts that only some levels see, imagine on, and let `judge` measure the frames, for every subset.

    Judged are the last frames of the context as the model reconstructs them, at most `SEEN`, and all imagined ones. All
    conditions share their noise. With no level on its prior it is the ordinary prediction; with all of them it is one
    made up from nothing, which gives the floor. Raises `ValueError` for a model without levels and for too short clips.
    """
    levels, seen = len(hierarchy_of(model).levels), min(SEEN, context)
    generator = torch.Generator().manual_seed(seed)
    found: dict[PriorLevels, list[Mapping[str, Tensor]]] = {prior_levels: [] for prior_levels in level_subsets(levels)}
    with evaluating(model):
        for group in groups_of(batch, model, context + horizon):
            noise = model.draw_noise(*group.shape, generator)
            for prior_levels, parts in found.items():
                frames = decoded_frames(model, group, noise, context=context, seen=seen, prior_levels=prior_levels)
                parts.append(judge(frames, group.window(context - seen, context + horizon)))
    return LevelReset(levels, context, seen, {prior_levels: _joined(parts) for prior_levels, parts in found.items()})


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


def _joined(parts: list[Mapping[str, Tensor]]) -> dict[str, Floats]:
    return {name: torch.cat([part[name].double().cpu() for part in parts]).numpy() for name in parts[0]}
