"""Which level holds what? Some see the context, some do not, and the ground truth judges what is imagined from there.

A level that saw nothing of the context is reset: it followed its prior (TALD, section 4.6). What goes wrong in the
imagined frames is what it held, and nobody else. The papers look at pictures; here digits are recognised and located.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.errors import Errors, Estimate
from wmkit.evaluation.levels.reading import Blind, every_blindness, groups_of, hierarchy_of, name_of, read
from wmkit.evaluation.protocol import evaluating
from wmkit.world_model import WorldModel

Judge = Callable[[Tensor, Batch], Mapping[str, Tensor]]
"""Frames (B, H, C, H, W) in [0, 1] and the query (B, H) with its ground truth as extras -> measures (B, H) by name."""


@dataclasses.dataclass(frozen=True)
class LevelReset:
    """What was measured, for every subset of blind levels."""

    levels: int
    context: int
    measures: dict[Blind, dict[str, Errors]]
    """(N, H) by the levels that were blind and the name of the measure."""

    @property
    def horizon(self) -> int:
        """H."""
        return len(next(iter(self.measures[()].values())))

    @property
    def names(self) -> list[str]:
        """Of the measures."""
        return list(self.measures[()])

    def over(self, blind: Blind, name: str, last: int) -> Estimate:
        """Mean over the first `last` imagined steps, interval over clips."""
        return self.measures[blind][name].over(1, min(last, self.horizon))

    def to_json(self, last: int) -> dict[str, Any]:
        """Plain values: means over the first `last` steps, and the curves."""
        return {
            "context": self.context,
            "horizon": self.horizon,
            "mean_over_first": min(last, self.horizon),
            "clips": self.measures[()][self.names[0]].per_episode.shape[0],
            "conditions": [
                {"name": name_of(blind, self.levels), "blind": list(blind), **self._entry(blind, last)}
                for blind in self.measures
            ],
        }

    def _entry(self, blind: Blind, last: int) -> dict[str, Any]:
        return {
            name: {
                **dataclasses.asdict(self.over(blind, name, last)),
                "curve": errors.mean().tolist(),
                "curve_half_width": errors.half_width().tolist(),
            }
            for name, errors in self.measures[blind].items()
        }


def level_reset(
    model: WorldModel, batch: Batch, judge: Judge, *, context: int, horizon: int, seed: int = 0
) -> LevelReset:
    """Imagine from contexts that only some levels saw, for every subset of them, and let `judge` measure the frames.

    All conditions share their noise. Nobody blind is the ordinary prediction; all blind is one made up from nothing,
    what `judge` says of which is the floor. Raises `ValueError` for a model without levels and for too short clips.
    """
    levels = len(hierarchy_of(model).levels)
    generator = torch.Generator().manual_seed(seed)
    found: dict[Blind, list[Mapping[str, Tensor]]] = {blind: [] for blind in every_blindness(levels)}
    with evaluating(model):
        for group in groups_of(batch, model, context + horizon):
            noise = model.draw_noise(*group.shape, generator)
            for blind, parts in found.items():
                frames = imagined_frames(model, group, noise, context, blind)
                parts.append(judge(frames, group.window(context, context + horizon)))
    return LevelReset(levels, context, {blind: _joined(parts) for blind, parts in found.items()})


def imagined_frames(model: WorldModel, group: Batch, noise: Tensor, context: int, blind: Blind) -> Tensor:
    """Frames (B, H, C, H, W) in [0, 1] that follow a context which the levels `blind` did not see."""
    _, state = read(model, group.window(0, context), noise[:, :context], blind=blind, is_context=True)
    features = model.imagine(group.action[:, context:], state, noise=noise[:, context:]).features
    return model.decode(features).float().clamp(0, 1)


def _joined(parts: list[Mapping[str, Tensor]]) -> dict[str, Errors]:
    return {name: Errors(torch.cat([part[name].float().cpu() for part in parts])) for name in parts[0]}
