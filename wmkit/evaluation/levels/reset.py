"""Which level holds what? Some see the context, some do not, and the ground truth judges what is imagined from there.

A level that saw nothing of the context is reset: it followed its prior (TALD, section 4.6). What stays right in the
frames the other levels hold; what goes wrong it held, or misled the levels below about, for it tells them what it made
up. The papers look at pictures; here digits are recognised and located.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.digits.truth import Digits
from wmkit.evaluation.digits.truth import judge as judge_digits
from wmkit.evaluation.estimates import Estimate, Floats, normal, normal_curve
from wmkit.evaluation.levels.base import (
    ClipsAnalysis,
    Findings,
    QueryAnalysis,
    Runs,
    colour_of,
    option,
    register_analysis,
)
from wmkit.evaluation.levels.reading import PriorLevels, decoded_frames, groups_of, hierarchy_of
from wmkit.evaluation.plots.figures import DOTS_PER_INCH, draw_curve
from wmkit.evaluation.record import Curve
from wmkit.evaluation.rollout import evaluating
from wmkit.evaluation.tables import Table
from wmkit.world_model import WorldModel

Judge = Callable[[Tensor, Batch], Mapping[str, Tensor]]
"""Frames (B, T, C, H, W) in [0, 1] and what was to be seen, with its ground truth -> measures (B, T) by name."""

SEEN = 10
"""Last frames of the context that are judged too, as the model reconstructs them."""
IN_CONTEXT, IMAGINED = "in the context", "imagined"
ALL_SEE: PriorLevels = ()


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
    def none_sees(self) -> PriorLevels:
        """The levels on their priors where none sees: all of them."""
        return tuple(range(1, self.levels + 1))

    @property
    def names(self) -> list[str]:
        """Names of the measures."""
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
                    **{name: self.entry(prior_levels, name, last) for name in self.names},
                }
                for prior_levels in self.measures
            ],
        }

    def entry(self, prior_levels: PriorLevels, name: str, last: int) -> dict[str, Any]:
        """Plain values of one measure in one condition."""
        means = {part: dataclasses.asdict(value) for part, value in self.over(prior_levels, name, last).items()}
        return means | {"curve": {k: v.tolist() for k, v in self.curve(prior_levels, name)._asdict().items()}}


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
    measures = {
        prior_levels: {name: torch.cat([part[name].double().cpu() for part in parts]).numpy() for name in parts[0]}
        for prior_levels, parts in found.items()
    }
    return LevelReset(levels, context, seen, measures)


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


@register_analysis("reset")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ResetAnalysis(QueryAnalysis, ClipsAnalysis):
    """Digits by which levels saw the context, of one run: TALD's section 4.6, judged by a probe that reads frames."""

    help = "Identity and position of digits, read and imagined, when some levels did not see the context."

    steps: int = option(10, "imagined steps that means are over (default: 10)", least=1)

    def find(self, runs: Runs) -> Findings:
        run, context, horizon = self.only(runs)
        batch, probe = run.digit_clips(self.clips, context + horizon), run.probe(self.seed)

        def judged(frames: Tensor, query: Batch) -> Mapping[str, Tensor]:
            return judge_digits(probe.read(frames), Digits.of(query.to("cpu")))

        found = level_reset(run.model, batch, judged, context=context, horizon=horizon, seed=self.seed)
        parts = [(name, part) for name in found.names for part in (IN_CONTEXT, IMAGINED)]
        table = Table(
            f"Digits by which levels saw the context: its last {found.seen} frames, "
            f"then the first {min(self.steps, found.horizon)} imagined ones",
            ["context", *(f"{name.replace('_', ' ')}, {part}" for name, part in parts)],
            [
                [
                    name_of(prior_levels, found.levels),
                    *(str(found.over(prior_levels, name, self.steps)[part]) for name, part in parts),
                ]
                for prior_levels in found.measures
            ],
            "± 1.96 standard errors over clips. None sees: the floor.",
        )
        return Findings(found.to_json(self.steps), draw_reset(found, run.title, self.steps), table)


def draw_reset(found: LevelReset, title: str, last: int) -> Figure:
    """Above: each subset of levels on their priors, and its means. Below: some of them over time."""
    names = found.names
    figure = Figure(figsize=(1.4 + 3.4 * len(names), 3.2 + 0.32 * len(found.measures)), dpi=DOTS_PER_INCH)
    figure.set_layout_engine("constrained")
    ratios = [0.16 * found.levels, *(1.0 for _ in names)]
    grid = figure.subplots(2, 1 + len(names), width_ratios=ratios, height_ratios=[0.32 * len(found.measures), 2.2])
    draw_who_sees(grid[0, 0], found)
    grid[1, 0].axis("off")
    for column, name in enumerate(names, start=1):
        draw_means(grid[0, column], found, name, last)
        draw_over_time(grid[1, column], found, name)
    grid[1, -1].legend(fontsize=7)
    clips = len(found.measures[()][names[0]])
    figure.suptitle(f"{title}\ncontexts of {found.context} frames, {clips} held-out clips", fontsize=9)
    return figure


def draw_who_sees(axes: Axes, found: LevelReset) -> None:
    """A dot for each level and condition, filled where the level sees the context."""
    for row, prior_levels in enumerate(found.measures):
        for level in range(1, found.levels + 1):
            face = "none" if level in prior_levels else colour_of(level)
            axes.plot(level, row, "o", markersize=7, markerfacecolor=face, markeredgecolor=colour_of(level))
    axes.set_xlim(0.5, found.levels + 0.5)
    axes.set_ylim(len(found.measures) - 0.5, -0.5)
    axes.set_xticks(range(1, found.levels + 1))
    axes.set_yticks([])
    axes.set_xlabel("level sees", fontsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def draw_means(axes: Axes, found: LevelReset, name: str, last: int) -> None:
    """One row per condition; the dotted lines are those of all and of none that see, imagined."""
    for part, face, shift in ((IN_CONTEXT, "none", -0.13), (IMAGINED, "0.2", 0.13)):
        estimates = [found.over(prior_levels, name, last)[part] for prior_levels in found.measures]
        means, halves = [x.mean for x in estimates], [x.half_width for x in estimates]
        places = [row + shift for row in range(len(estimates))]
        axes.errorbar(means, places, xerr=halves, fmt="o", color="0.2", mfc=face, markersize=4.5, capsize=2, label=part)
    for prior_levels in (ALL_SEE, found.none_sees):
        axes.axvline(found.over(prior_levels, name, last)[IMAGINED].mean, color="0.5", linewidth=0.8, linestyle=":")
    axes.set_ylim(len(found.measures) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_title(
        f"{name.replace('_', ' ')}: the last {found.seen} frames seen, {min(last, found.horizon)} imagined", fontsize=8
    )
    axes.grid(axis="x", alpha=0.25)
    axes.legend(fontsize=7)


def draw_over_time(axes: Axes, found: LevelReset, name: str) -> None:
    """All see, each level on its prior in turn, none sees; the context lies to the left of the line."""
    draw_curve(axes, found.curve(ALL_SEE, name), name_of(ALL_SEE, found.levels), "0.2")
    if found.levels > 1:
        for level in range(1, found.levels + 1):
            label = name_of((level,), found.levels)
            draw_curve(axes, found.curve((level,), name), label, colour_of(level))
    draw_curve(axes, found.curve(found.none_sees, name), name_of(found.none_sees, found.levels), "0.5", ":")
    axes.axvline(0.5, color="0.2", linewidth=0.8)
    axes.set_xlabel("frames after the context")
    axes.set_ylabel(name.replace("_", " "), fontsize=8)
    axes.grid(alpha=0.25)
