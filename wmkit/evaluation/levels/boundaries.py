"""Does a model that learns where segments begin find the true boundaries? F1 against a world that tells them.

    precision = hits / found        recall = hits / true        F1 = 2 hits / (found + true)

Counted over all steps of all clips but those at which a boundary is forced. A boundary is a hit where there is a true
one at the same step. Beside it, for a model that finds one at a share r of these steps, of which a share p is true:

    clock       a boundary at t where floor(t r) > floor((t - 1) r), t steps after the clip's first: its F1, counted
    chance      a boundary at each step with probability r, whatever is seen:   F1 = 2 r p / (r + p)
    every step  chance with r = 1, which no other r exceeds:                    F1 = 2 p / (1 + p)

where those of chance are ratios of expected counts. The scores with all boundaries moved by some steps tell one that
comes late, or early, from one that is not found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.estimates import Estimate, jackknife, normal
from wmkit.evaluation.levels.base import COLOURS, ClipsAnalysis, Findings, Runs, option, register_analysis
from wmkit.evaluation.levels.kl import clip_length
from wmkit.evaluation.levels.reading import LoadedRun, groups_of
from wmkit.evaluation.plots.figures import DOTS_PER_INCH
from wmkit.evaluation.rollout import evaluating
from wmkit.evaluation.tables import Table
from wmkit.loading import run_config
from wmkit.video_models import Vta, VtaObserved
from wmkit.world_model import WorldModel

TRUTH = "boundary"
"""(B, T) bool, of worlds that tell it."""
FARTHEST = 4
"""Steps by which boundaries are moved, at most, either way."""


class Score(NamedTuple):
    """How well boundaries are found; 0 where nothing is found, or there is nothing to find."""

    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class Boundaries:
    """What was found in N clips of T steps, and what there is to find."""

    found: Tensor
    """(N, T) bool."""
    true: Tensor
    """(N, T) bool."""
    counts: Tensor
    """(N, T) bool, the steps that are judged."""

    @property
    def rate(self) -> float:
        """r, the share of the judged steps at which one is found."""
        return float(self.found[self.counts].double().mean())

    @property
    def true_rate(self) -> float:
        """p, the share of the judged steps at which there is one."""
        return float(self.true[self.counts].double().mean())

    @property
    def score(self) -> Score:
        """Over all clips together."""
        found, true = self.found[self.counts], self.true[self.counts]
        hits = (found & true).sum()
        return Score(*(_share(hits, of) for of in (found.sum(), true.sum(), (found.sum() + true.sum()) / 2)))

    @property
    def f1(self) -> Estimate:
        """F1 with an interval over clips, that of the jackknife."""
        return normal(jackknife(lambda rows: self.map(lambda x: x[rows]).score.f1, len(self.found)))

    @property
    def clock(self) -> Boundaries:
        """What a clock of the same rate finds that begins with the clip."""
        hits, total = int(self.found[self.counts].sum()), int(self.counts.sum())
        ticks = torch.arange(-1, self.found.shape[1]) * hits // total  # integers: a multiple of 1 / r is met exactly
        return dataclasses.replace(self, found=(ticks.diff() > 0).expand_as(self.found))

    @property
    def chance(self) -> Score:
        """Of boundaries at random, of the same rate."""
        return by_chance(self.rate, self.true_rate)

    def moved(self, steps: int) -> Boundaries:
        """With every boundary that is found so many steps later, or earlier where it is negative."""
        length = self.found.shape[1]
        before, after = slice(max(0, -steps), length - max(0, steps)), slice(max(0, steps), length + min(0, steps))
        return Boundaries(self.found[:, before], self.true[:, after], self.counts[:, before])

    def map(self, change: Callable[[Tensor], Tensor]) -> Boundaries:
        """With `change` of every tensor."""
        return Boundaries(change(self.found), change(self.true), change(self.counts))

    def to_json(self) -> dict[str, Any]:
        """Scores, rates, and the F1 of moved boundaries by steps."""
        shifts = range(-FARTHEST, FARTHEST + 1)
        return {
            "clips": len(self.found),
            "frames": self.found.shape[1],
            "f1": dataclasses.asdict(self.f1),
            "precision": self.score.precision,
            "recall": self.score.recall,
            "found_per_step": self.rate,
            "true_per_step": self.true_rate,
            "f1_of_clock": self.clock.score.f1,
            "f1_of_chance": self.chance.f1,
            "f1_of_every_step": by_chance(1.0, self.true_rate).f1,
            "f1_moved": {str(steps): self.moved(steps).score.f1 for steps in shifts},
        }


def by_chance(rate: float, true_rate: float) -> Score:
    """Precision p, recall r and F1 = 2 r p / (r + p) of boundaries at random steps, a share r of them."""
    return Score(true_rate, rate, _share(2 * rate * true_rate, rate + true_rate))


def _share(part: Tensor | float, whole: Tensor | float) -> float:
    return float(part) / float(whole) if whole else 0.0


def find_boundaries(model: WorldModel, batch: Batch, *, length: int, seed: int = 0) -> Boundaries:
    """Where the model begins segments in the first `length` frames of clips, read as in training, from their first one.

    batch: clips with `boundary` among their extras. Boundaries are the likelier ones, latents are drawn from `seed`.
    Raises `ValueError` for a model that learns none, and for too short clips.
    """
    if not isinstance(model.dynamics, Vta):
        raise ValueError(
            f"Boundaries are those that vta learns, this model has a {type(model.dynamics).__name__}: train one with "
            "backbone=vta"
        )
    generator, parts = torch.Generator().manual_seed(seed), []
    with evaluating(model):
        for group in groups_of(batch, model, length):
            noise = model.draw_noise(*group.shape, generator)
            seen, _ = model.observe(group.image, group.action, noise=noise, return_state=False)
            assert isinstance(seen, VtaObserved), "as vta gives it"
            parts.append((seen.read.cpu() > 0.5, ~seen.forced.cpu()))
    found, counts = (torch.cat(each) for each in zip(*parts, strict=True))
    return Boundaries(found, batch.extras[TRUTH][:, :length].cpu() > 0, counts)


@register_analysis("boundaries")
@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundariesAnalysis(ClipsAnalysis):
    """F1 of learned boundaries against the world's."""

    help = "F1 of the boundaries that vta learns against the world's, beside a clock and chance."
    several = True

    length: int | None = option(None, "frames of a clip (default: as in training)", least=3)

    def load(self, run: Path) -> LoadedRun:
        """The run with the clips that are asked for; raises `ValueError` for a world that tells no boundaries."""
        loaded = LoadedRun.of(run, self.checkpoint, self.episodes_from)
        if TRUTH not in loaded.first_clip:
            raise ValueError(
                f"{self.episodes_from or loaded.world} does not tell {TRUTH}, where segments begin: measure in a world "
                "that does, such as bouncing_balls"
            )
        return loaded

    def find(self, runs: Runs) -> Findings:
        every = {}
        for label, folder in runs.items():
            length, run = self.length or clip_length(run_config(folder)), self.load(folder)
            clips = run.clips(self.clips, length, (TRUTH,))
            every[label] = find_boundaries(run.model, clips, length=length, seed=self.seed)
        rows = []
        for label, one in every.items():
            beside = {
                "clock of that rate": (one.clock.score, one.clock.rate),
                "chance of that rate": (one.chance, one.rate),
                "every step": (by_chance(1.0, one.true_rate), 1.0),
            }
            rows.append([label, str(one.f1), *(f"{part:.3f}" for part in (*one.score[:2], one.rate))])
            for name, ((precision, recall, f1), rate) in beside.items():
                rows.append([f"  {name}", f"{f1:.4g}", *(f"{part:.3f}" for part in (precision, recall, rate))])
        counts = ", ".join(f"{label}: {len(one.found)} of {one.found.shape[1]} frames" for label, one in every.items())
        table = Table(
            "Boundaries against the world's",
            ["", "F1", "precision", "recall", "found per step"],
            rows,
            f"Held-out clips, {counts}; steps with a forced boundary left out. ± 1.96 standard errors over clips.",
        )
        return Findings({label: one.to_json() for label, one in every.items()}, draw_boundaries(every), table)


def draw_boundaries(every: Mapping[str, Boundaries]) -> Figure:
    """F1 against the steps by which all boundaries are moved, with chance beside it."""
    figure = Figure(figsize=(6.0, 4.0), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    shifts = range(-FARTHEST, FARTHEST + 1)
    for number, (label, one) in enumerate(every.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(shifts, [one.moved(steps).score.f1 for steps in shifts], color=colour, marker="o", label=label)
        axes.axhline(one.chance.f1, color=colour, linestyle=":", label=f"{label}: chance of that rate")
    best = max(by_chance(1.0, one.true_rate).f1 for one in every.values())
    axes.axhline(best, color="grey", linestyle="--", label="a boundary at every step")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("boundaries moved later by, steps")
    axes.set_ylabel("F1")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(fontsize=8)
    return figure
