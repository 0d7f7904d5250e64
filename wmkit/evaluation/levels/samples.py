"""What a level alone knows, as pictures: decoded samples with some levels on their priors (TALD, Figures 9 and 11)."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.levels.reading import PriorLevels, groups_of, hierarchy_of, observe_levels
from wmkit.evaluation.measures.frames import frame_error
from wmkit.evaluation.rollout import evaluating
from wmkit.world_model import WorldModel

PARTS = ("context", "query")


@dataclasses.dataclass(frozen=True)
class LevelSamples:
    """One clip as the model goes on with it, by which levels saw its context."""

    truth: Tensor
    """(C + H, C, H, W) uint8."""
    frames: dict[str, Tensor]
    """For each condition (draws, C + H, C, H, W) float, clamped to [0, 1]: read, then imagined."""
    context: int

    def error(self, name: str) -> tuple[float, float]:
        """Squared error per frame against the truth, in the unit of `frame_error`: in the context, after it."""
        errors = frame_error(self.frames[name], self.truth.expand_as(self.frames[name])).mean(0)
        return float(errors[: self.context].mean()), float(errors[self.context :].mean())

    def spread(self, name: str) -> tuple[float, float]:
        """Variance over draws, summed over a frame's pixels: what the seeing levels leave open. As `error`.

        Unbiased, so its expectation does not depend on the number of draws.
        """
        variance = self.frames[name].var(dim=0).sum((-3, -2, -1))
        return float(variance[: self.context].mean()), float(variance[self.context :].mean())

    def to_json(self) -> dict[str, Any]:
        """Error and spread of every condition; the pictures are the figure."""
        entries = {}
        for name in self.frames:
            pairs = {"error": self.error(name), "spread": self.spread(name)}
            entries[name] = {
                f"{key}_{part}": x for key, both in pairs.items() for part, x in zip(PARTS, both, strict=True)
            }
        return {"unit": "squared error summed over H, W, C", "context": self.context, "conditions": entries}


def conditions(levels: int) -> dict[str, PriorLevels]:
    """Which levels are on their priors: none; each in turn (TALD's reset); all but one; all (a floor)."""
    every = tuple(range(1, levels + 1))
    found: dict[str, PriorLevels] = {"all levels see": ()}
    if levels > 1:
        found |= {f"level {level} on its prior": (level,) for level in every}
    if levels > 2:  # of two levels, one on its prior leaves one alone
        found |= {f"level {level} alone sees": tuple(i for i in every if i != level) for level in every}
    return found | {"none sees": every}


def level_samples(
    model: WorldModel, clip: Batch, *, context: int, horizon: int, draws: int = 2, seed: int = 0
) -> LevelSamples:
    """Decoded samples of one clip (a batch of one row) under every one of `conditions`.

    In the context some levels sample from their priors while the others infer; then all imagine. What stays the same
    from draw to draw and with the truth is what the seeing levels hold. All conditions share their noise.
    """
    generator = torch.Generator().manual_seed(seed)
    frames = {}
    with evaluating(model):
        [group] = groups_of(clip, model, context + horizon)
        group = group.map(lambda x: x.expand(draws, *x.shape[1:]))
        noise = model.draw_noise(*group.shape, generator)
        for name, prior_levels in conditions(len(hierarchy_of(model).levels)).items():
            seen, state = observe_levels(
                model, group.window(0, context), noise[:, :context], prior_levels=prior_levels, context=context
            )
            future = model.imagine(group.action[:, context:], state, noise=noise[:, context:]).features
            decoded = model.decode(torch.cat([seen.features, future], dim=1))
            frames[name] = decoded.float().clamp(0, 1).cpu()
    return LevelSamples(clip.image[0, : context + horizon].cpu(), frames, context)
