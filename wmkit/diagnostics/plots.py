"""The figure of several cards: accuracy against delay, pairs and steps, and against bytes of state."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from wmkit.comparison.plots import apart
from wmkit.diagnostics.card import Card
from wmkit.evaluation.plots.figures import DOTS_PER_INCH
from wmkit.evaluation.plots.look import Look, own_look

WITHOUT_CURVES = ("selective_copy", "s5", "path_integration")
"""Tasks of few levels, or much as another one. The levels of all others are drawn, a user's own too."""
MARKERS = "osD^vPX*<>"


@own_look()
def draw_cards(cards: Sequence[Card], path: Path) -> None:
    """A panel for each task with curves, and one of skill against bytes of state where all cards share a task.

    A colour, dash and marker per backbone: where lines cover each other, their markers stand at different levels.
    """
    drawn = [task for task in {r.task: r for card in cards for r in card.results} if task not in WITHOUT_CURVES]
    shared = [result.task for result in cards[0].results if all(card.result(result.task) for card in cards)]
    rows = -(-(len(drawn) + bool(shared)) // 3)
    figure = Figure(figsize=(12.6, 3.3 * rows + 0.6), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False).flatten().tolist()
    ranked = sorted(cards, key=lambda card: (not card.origin.startswith("wmkit."), card.backbone))  # the shipped first
    looks = {card.backbone: Look.of_system(number) for number, card in enumerate(ranked)}
    markers = dict(zip(looks, itertools.cycle(MARKERS), strict=False))
    for axes, task in zip(panels, drawn, strict=False):
        _draw_levels(axes, cards, task, looks, markers)
    if shared:
        _draw_costs(panels[len(drawn)], cards, shared, looks, markers)
    for axes in panels[len(drawn) + bool(shared) :]:
        axes.axis("off")
    lines = [
        Line2D([], [], color=look.light, linewidth=1.8, marker=markers[name], markersize=5, label=name)
        for name, look in looks.items()
    ]
    for line, look in zip(lines, looks.values(), strict=True):
        line.set(linestyle=look.dash)
    lines.append(Line2D([], [], color="0.45", linewidth=1.2, linestyle=":", label="chance"))
    figure.legend(handles=lines, loc="outside upper center", ncols=min(8, len(lines)), frameon=False, fontsize=9)
    figure.savefig(path)


def _draw_levels(axes: Axes, cards: Sequence[Card], task: str, looks: dict[str, Look], markers: dict[str, str]) -> None:
    """The score of each level, of the shortest sequences that have it, with its interval as a band."""
    for number, card in enumerate(cards):
        result, look = card.result(task), looks[card.backbone]
        if result is None:
            continue
        levels = [level.level for level in result.levels]
        means, lows, highs = zip(*((s.score.mean, s.score.low, s.score.high) for s in result.levels), strict=True)
        axes.plot(
            levels,
            means,
            color=look.light,
            linestyle=look.dash,
            linewidth=1.5,
            marker=markers[card.backbone],
            markersize=4.5,
            markevery=(number % len(levels), max(1, len(levels) // 6)),
        )
        axes.fill_between(levels, lows, highs, color=look.light, alpha=0.12, linewidth=0)
        chances = [level.chance for level in result.levels]
        axes.set_title(result.title, fontsize=9)
        axes.plot(levels, chances, color="0.45", linewidth=1.2, linestyle=":")
        axes.set_xlabel(result.level_name, fontsize=9)
        axes.set_ylabel("accuracy" if result.unit == "accuracy" else "R²", fontsize=9)
        axes.set_xscale("log", base=2)
        powers = [2**power for power in range(9) if levels[0] <= 2**power <= levels[-1]]
        axes.xaxis.set_major_locator(FixedLocator(powers))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.25)


def _draw_costs(
    axes: Axes, cards: Sequence[Card], shared: Sequence[str], looks: dict[str, Look], markers: dict[str, str]
) -> None:
    """Mean skill over the tasks `shared`, against bytes of state."""
    skills = {
        card.backbone: statistics.fmean(result.skill for result in card.results if result.task in shared)
        for card in cards
    }
    by_bytes = sorted(cards, key=lambda card: card.costs["state_bytes"])
    for _, near in itertools.groupby(by_bytes, lambda card: round(math.log10(card.costs["state_bytes"]))):
        group = sorted(near, key=lambda card: skills[card.backbone])
        heights = apart(
            [skills[card.backbone] for card in group], -0.03, 1.03, 0.055
        )  # names stand clear of each other
        for card, height in zip(group, heights, strict=True):
            state = card.costs["state_bytes"]
            axes.plot(
                state, skills[card.backbone], markers[card.backbone], color=looks[card.backbone].light, markersize=7
            )
            axes.annotate(card.backbone, (state, height), (7, 0), textcoords="offset points", fontsize=8, va="center")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("bytes of state a row", fontsize=9)
    axes.set_ylabel("mean skill", fontsize=9)
    axes.set_title(
        f"skill over {len(shared)} task{'s' * (len(shared) != 1)} and three lengths: 0 chance, 1 perfect", fontsize=9
    )
    axes.set_ylim(-0.03, 1.03)
    axes.margins(x=0.4)
    axes.grid(alpha=0.25)
