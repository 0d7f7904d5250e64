"""What a level alone knows, as pictures: decoded samples with some levels on their priors (TALD, Figures 9 and 11)."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.levels.base import Findings, QueryAnalysis, Runs, option, register_analysis
from wmkit.evaluation.levels.reading import CONTEXT, QUERY, PriorLevels, decoded_frames, groups_of, hierarchy_of
from wmkit.evaluation.measures.frames import frame_error
from wmkit.evaluation.plots.figures import DOTS_PER_INCH, show_image
from wmkit.evaluation.plots.video import picture_of, query_times
from wmkit.evaluation.rollout import evaluating
from wmkit.evaluation.tables import Table
from wmkit.world_model import WorldModel

PARTS = (CONTEXT, QUERY)


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
            decoded = decoded_frames(model, group, noise, context=context, seen=context, prior_levels=prior_levels)
            frames[name] = decoded.cpu()
    return LevelSamples(clip.image[0, : context + horizon].cpu(), frames, context)


@register_analysis("samples")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplesAnalysis(QueryAnalysis):
    """Decoded samples of one clip by which levels saw its context, of one run."""

    help = "Decoded samples of one clip when some levels did not see the context."

    clip: int = option(0, "number of the held-out clip (default: 0)", least=0)
    draws: int = option(2, "samples of each condition (default: 2)", least=2)

    def find(self, runs: Runs) -> Findings:
        run, context, horizon = self.only(runs)
        batch = run.clips(self.clip + 1, context + horizon).map(lambda x: x[self.clip :])
        options = {"context": context, "horizon": horizon, "draws": self.draws, "seed": self.seed}
        found = level_samples(run.model, batch, **options)
        table = Table(
            "Samples of one clip by which levels saw its context",
            ["context", *(f"{what}, {part}" for what in ("error", "spread") for part in PARTS)],
            [[name, *(f"{value:.2f}" for value in (*found.error(name), *found.spread(name)))] for name in found.frames],
            "Per frame, summed over pixels. Error: against the truth; spread: variance from draw to draw.",
        )
        values = {"clip": self.clip, **options} | found.to_json()
        return Findings(values, draw_samples(found, run.title), table)


def draw_samples(found: LevelSamples, title: str) -> Figure:
    """The truth, then for each condition its draws: at the last context steps, then at growing steps of the query."""
    context = found.context
    times = [*range(max(0, context - 3), context), *query_times(context, len(found.truth) - context)]
    rows = [("truth", found.truth / 255)]
    for name, draws in found.frames.items():
        rows += [(name if number == 0 else "", draw) for number, draw in enumerate(draws)]
    figure = Figure(figsize=(1.9 + 0.62 * len(times), 0.8 + 0.62 * len(rows)), dpi=DOTS_PER_INCH)
    figure.set_layout_engine("constrained", h_pad=0.01, w_pad=0.01)
    grid = figure.subplots(len(rows), len(times), squeeze=False)
    for line, (name, frames) in zip(grid, rows, strict=True):
        for axes, time in zip(line, times, strict=True):
            show_image(axes, picture_of((frames[time] * 255).round().byte()), time < context)
        line[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    for axes, time in zip(grid[0], times, strict=True):
        axes.set_title(f"{time + 1 - context:+d}" if time >= context else f"seen {time + 1}", fontsize=8)
    figure.suptitle(f"{title}\nblue: in the context, orange: imagined", fontsize=9)
    return figure
