"""How sure is each level of what comes next, while it sees frames and when it sees no more? (TALD, Figure 10)"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from wmkit.batch import Batch
from wmkit.dynamics.clockwork.level import LevelPass
from wmkit.dynamics.latents import Latent
from wmkit.evaluation.estimates import Floats, normal_curve
from wmkit.evaluation.levels.base import ClipsAnalysis, Findings, QueryAnalysis, Runs, register_analysis
from wmkit.evaluation.levels.reading import CONTEXT, QUERY, groups_of, hierarchy_of, imagine_levels, observe_levels
from wmkit.evaluation.plots.figures import DOTS_PER_INCH, draw_curve
from wmkit.evaluation.predictors import IMAGINED, OBSERVED, predictor
from wmkit.evaluation.record import Curve
from wmkit.evaluation.rollout import evaluating
from wmkit.evaluation.tables import Table
from wmkit.world_model import WorldModel

PRIOR, POSTERIOR, OPEN_LOOP = "prior", "posterior", "open loop"
"""Of a model that sees every frame: before and after looking; and the prior of one that sees the context only."""
LINES = {PRIOR: "0.45", POSTERIOR: predictor(OBSERVED).colour, OPEN_LOOP: predictor(IMAGINED).colour}


@dataclasses.dataclass(frozen=True)
class Ticks:
    """Entropies at the ticks of one level."""

    steps: tuple[int, ...]
    """Frames after the context's last one: up to 0 in the context, from 1 on in the query."""
    nats: Floats
    """(N, ticks)."""

    def over_clips(self) -> Curve:
        """Mean and 95 % interval over clips at every tick."""
        return Curve(np.array(self.steps, float), *normal_curve(self.nats, np.ones(self.nats.shape, bool)))

    def mean_text(self, *, in_context: bool) -> str:
        """The mean over the ticks of context or query; `-` where there is none."""
        chosen = [tick for tick, step in enumerate(self.steps) if (step < 1) == in_context]
        return f"{self.nats[:, chosen].mean():.2f}" if chosen else "-"

    def to_json(self) -> dict[str, Any]:
        """Mean and interval over clips at every tick."""
        return {name: values.tolist() for name, values in self.over_clips()._asdict().items()}


@dataclasses.dataclass(frozen=True)
class LevelEntropy:
    """Entropies in nats, summed over the numbers of a latent, one dictionary of curves per level, bottom first."""

    context: int
    horizon: int
    levels: tuple[dict[str, Ticks], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        curves = [{name: curve.to_json() for name, curve in level.items()} for level in self.levels]
        clips = len(self.levels[0][PRIOR].nats)
        return {"unit": "nats", "clips": clips, "context": self.context, "horizon": self.horizon, "levels": curves}


def level_entropy(model: WorldModel, batch: Batch, *, context: int, horizon: int, seed: int = 0) -> LevelEntropy:
    """Entropies of each level's prior and posterior while it reads all frames, and of its prior once it sees no more.

    In open loop it is the prior's entropy along one imagined sample, which says how uncertain the next tick is, not how
    far samples have spread. Raises `ValueError` for a model without levels and for too short clips.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[dict[str, Ticks]]] = []
    with evaluating(model):
        for group in groups_of(batch, model, context + horizon):
            parts.append(_curves(model, group, context, model.draw_noise(*group.shape, generator)))
    levels = [
        {
            name: Ticks(ticks.steps, np.concatenate([part[i][name].nats for part in parts]))
            for name, ticks in parts[0][i].items()
        }
        for i in range(len(parts[0]))
    ]
    return LevelEntropy(context, horizon, tuple(levels))


def _curves(model: WorldModel, group: Batch, context: int, noise: Tensor) -> list[dict[str, Ticks]]:
    """The curves of one group of clips, level by level."""
    query, later = group.window(context, group.shape[1]), noise[:, context:]
    seen, state = observe_levels(model, group.window(0, context), noise[:, :context], context=context)
    rest, _ = observe_levels(model, query, later, state=state)
    alone = imagine_levels(model, query.action, later, state)
    curves = []
    for i, level in enumerate(hierarchy_of(model).levels):
        whole = [(seen.levels[i], 1 - context), (rest.levels[i], 1)]
        both = {name: _curve(level.latent, name, whole) for name in (PRIOR, POSTERIOR)}
        curves.append(both | {OPEN_LOOP: _curve(level.latent, PRIOR, [(alone.levels[i], 1)])})
    return curves


def _curve(latent: Latent, name: str, passes: list[tuple[LevelPass, int]]) -> Ticks:
    """Entropies of `prior` or `posterior` over consecutive passes, each with the step of its first column."""
    steps = [first + tick for part, first in passes for tick in part.ticks]
    nats = torch.cat([latent.entropy(getattr(part, name)) for part, _ in passes], dim=1)
    return Ticks(tuple(steps), nats.cpu().double().numpy())


@register_analysis("entropy")
@dataclasses.dataclass(frozen=True, kw_only=True)
class EntropyAnalysis(QueryAnalysis, ClipsAnalysis):
    """Entropy per level over time, in the context and in open loop, of one run."""

    help = "Entropy per level over time, in the context and in open loop."

    def find(self, runs: Runs) -> Findings:
        run, context, horizon = self.only(runs)
        batch = run.clips(self.clips, context + horizon)
        found = level_entropy(run.model, batch, context=context, horizon=horizon, seed=self.seed)
        parts = [(name, part) for name in (PRIOR, POSTERIOR) for part in (CONTEXT, QUERY)] + [(OPEN_LOOP, QUERY)]
        table = Table(
            f"Entropy per level in nats, context {context} | query {horizon}",
            ["level", *(f"{name}, {part}" for name, part in parts)],
            [
                [str(level), *(curves[name].mean_text(in_context=part == CONTEXT) for name, part in parts)]
                for level, curves in enumerate(found.levels, start=1)
            ],
            "Mean over ticks. In the query, prior and posterior see the frames, open loop does not.",
        )
        return Findings(found.to_json(), draw_entropy(found, run.title), table)


def draw_entropy(found: LevelEntropy, title: str) -> Figure:
    """One panel per level, the top one first: the context to the left of the line, the query to its right."""
    figure = Figure(figsize=(8.0, 1.2 + 1.7 * len(found.levels)), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(len(found.levels), 1, sharex=True, squeeze=False)[::-1, 0]
    for number, (axes, curves) in enumerate(zip(panels, found.levels, strict=True), start=1):
        for name, colour in LINES.items():
            draw_curve(axes, curves[name].over_clips(), name, colour, "-")
        axes.axvline(0.5, color="0.2", linewidth=0.8)
        axes.set_ylabel(f"level {number}\nentropy, nats", fontsize=9)
        axes.grid(alpha=0.25)
    panels[0].set_xlabel(f"frames after the context of {found.context}")
    panels[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.suptitle(
        f"{title}\nopen loop: the prior, with no frame seen after the line; the others go on seeing", fontsize=9
    )
    return figure
