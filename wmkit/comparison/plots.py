"""The plots of a report: lines with bands, and one row of dots per system, drawn by matplotlib as SVG for a page.

Colours in the SVG are CSS variables that the page defines, for light and dark; text stays text. The same data give the
same bytes.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
import statistics
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from wmkit.evaluation.plots.look import COLOURS, Look, own_look

WIDTH, HEIGHT = 760, 360
"""Of a plot, in units of its SVG; a page scales it."""
LEFT, RIGHT, TOP, BOTTOM = 62, 168, 14, 46
MANY = 60
"""Points of a line, above which they are not marked."""
ROW = 38
"""Height of one row of dots."""
LETTER = 8
"""Width of a letter, about; the page chooses the font."""
TEXT_LINE = 17
"""Least distance between two labels at the ends of lines."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 12.5,
    "text.color": COLOURS["ink"][0],
    "axes.edgecolor": COLOURS["soft"][0],
    "axes.labelcolor": COLOURS["soft"][0],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"][0],
    "xtick.labelcolor": COLOURS["soft"][0],
    "ytick.labelcolor": COLOURS["soft"][0],
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.major.pad": 7.0,
    "ytick.major.pad": 8.0,
    "figure.dpi": 72.0,
}
ROUND = (1, 2, 5, 10)
"""Ticks stand at these times powers of ten."""


@dataclasses.dataclass(frozen=True)
class Line:
    """Mean y at each x, with a band from `low` to `high`."""

    label: str
    look: Look
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float] | None = None
    """None: a baseline, drawn thin and without band."""
    high: Sequence[float] | None = None


@dataclasses.dataclass(frozen=True)
class Dots:
    """One row: a value per seed, their mean marked and written at the row's end."""

    label: str
    look: Look
    values: Sequence[float]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.values)


def line_plot(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    unit: str,
    x_ticks: Sequence[float] = (),
    log: bool = False,
) -> str:
    """Lines, each named at its right end, as `<svg>`. title: read out by screen readers.

    unit: of y; shares are in per cent and reach to 100. x_ticks: marked instead of round values. log: equal ratios of y
    are equally far apart, and values of 0 and below are drawn at the bottom.
    """
    ys = [y for line in lines for curve in (line.mean, line.low or (), line.high or ()) for y in curve]
    positive = [y for y in ys if y > 0]
    low, high = (0.9 * min(positive), 1.1 * max(positive)) if log and positive else _ends(ys, unit)
    few = LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)) if log else MaxNLocator(5, steps=ROUND)
    with own_look(STYLE | {"svg.hashsalt": title}):
        figure, axes = _axes(HEIGHT, LEFT, WIDTH - _room(RIGHT, [line.label for line in lines]))
        xs = [x for line in lines for x in line.x]
        axes.set(xlim=(min(xs), max(max(xs), min(xs) + 1e-9)), xlabel=x_label, ylabel=y_label)
        axes.set(yscale="log" if log else "linear", ylim=(low, high))
        round_x = MaxNLocator(6, steps=ROUND, integer=all(x == round(x) for x in xs))
        axes.xaxis.set_major_locator(FixedLocator(x_ticks) if x_ticks else round_x)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.yaxis.set_major_locator(few)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(_formatter(unit))
        for line in lines:
            of: dict[str, Any] = {"color": line.look.light, "clip_on": False}
            if line.low is not None and line.high is not None:
                band = np.clip(line.low, low, high), np.clip(line.high, low, high)
                axes.fill_between(line.x, *band, alpha=0.16, linewidth=0, **of)
            of |= {"linewidth": 1.5, "marker": ""} if line.low is None else {"linewidth": 2.2, "marker": "o"}
            curve = axes.plot(line.x, np.clip(line.mean, low, high), linestyle=line.look.dash, markersize=4.5, **of)
            if len(line.x) > MANY:
                curve[0].set_marker("")
        _name_ends(axes, lines)
        return _svg(figure, title)


def dot_plot(
    title: str, rows: Sequence[Dots], *, x_label: str, unit: str, text: Callable[[float], str], dashed: float | None
) -> str:
    """One row per system, one dot per seed, a bar at their mean, which is also written; as `<svg>`.

    unit: as in `line_plot`. text: how means are written. dashed: where a line goes through all rows.
    """
    values = [value for row in rows for value in row.values]
    ends = _ends([*values, *([] if dashed is None else [dashed])], unit)
    with own_look(STYLE | {"svg.hashsalt": title}):
        left = _room(LEFT + 70, [row.label for row in rows])
        figure, axes = _axes(TOP + ROW * len(rows) + BOTTOM, left, WIDTH - RIGHT)
        axes.set(xlim=ends, ylim=(len(rows) - 0.5, -0.5), xlabel=x_label)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
        axes.xaxis.set_major_formatter(_formatter(unit))
        axes.set_yticks(range(len(rows)), [row.label for row in rows], fontweight="bold", color=COLOURS["ink"][0])
        if dashed is not None:
            axes.axvline(dashed, color=COLOURS["soft"][0], linestyle=(0, (5, 4)), linewidth=1.5)
        for y, row in enumerate(rows):
            of: dict[str, Any] = {"color": row.look.light, "clip_on": False}
            dots: dict[str, Any] = {"markersize": 10, "alpha": 0.75, "markeredgecolor": COLOURS["card"][0]}
            axes.plot([min(row.values), max(row.values)], [y, y], linewidth=3, alpha=0.45, **of)
            axes.plot(row.values, [y] * len(row.values), "o", **dots, **of)
            axes.plot([row.mean] * 2, [y - 0.29, y + 0.29], linewidth=3, solid_capstyle="butt", **of)
            at: dict[str, Any] = {
                "xycoords": axes.get_yaxis_transform(),
                "textcoords": "offset points",
                "va": "center_baseline",
            }
            axes.annotate(text(row.mean), (1, y), (16, 0), fontweight="bold", **at)
        return _svg(figure, title)


def apart(heights: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Sorted heights, moved to be at least `gap` apart and within low..high, where there is room."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap if placed else low))
    limit = high
    for number in reversed(range(len(placed))):
        placed[number] = min(placed[number], limit)
        limit = placed[number] - gap
    return placed


def _ends(values: Sequence[float], unit: str) -> tuple[float, float]:
    """The ends of a linear axis: 100 % for shares, else 0 where nothing is below it."""
    low, high = min(values), max(values)
    if unit == "share":
        return math.floor(min(0.4, low) * 10) / 10, 1.0
    return min(0.0, 1.05 * low), 1.05 * high if high > 0 else 1.0


def _formatter(unit: str) -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{100 * value:.0f} %" if unit == "share" else f"{value:,.6g}")


def _axes(height: float, left: float, right: float) -> tuple[Figure, Axes]:
    """A figure of `WIDTH` x `height` points, and axes between its margins."""
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    box = (left / WIDTH, BOTTOM / height, (right - left) / WIDTH, 1 - (TOP + BOTTOM) / height)
    return figure, figure.add_axes(box)


def _room(least: float, names: Sequence[str]) -> float:
    """Width beside a plot for the longest of its names, up to a third of the whole."""
    return min(max(least, LETTER * max(map(len, names)) + 24), WIDTH / 3)


def _name_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """The name of each line beside its end, moved apart where names would overlap, with a leader."""
    low, high = axes.get_ylim()
    ends = [tuple(axes.transData.transform((line.x[-1], np.clip(line.mean[-1], low, high)))) for line in lines]
    order = sorted(range(len(lines)), key=lambda number: ends[number][1])
    placed = apart([ends[number][1] for number in order], BOTTOM, HEIGHT - TOP - 6, TEXT_LINE)
    right = axes.transAxes.transform((1, 0))[0]
    pixels: dict[str, Any] = {"xycoords": "figure pixels", "textcoords": "figure pixels", "va": "center_baseline"}
    leader = {"arrowstyle": "-", "alpha": 0.55, "shrinkA": 4, "shrinkB": 3, "relpos": (0, 0.5)}
    for number, height in zip(order, placed, strict=True):
        line = lines[number]
        named = (
            {"color": COLOURS["ink"][0], "fontweight": "bold"}
            if line.low is not None
            else {"color": COLOURS["soft"][0]}
        )
        arrow = leader | {"color": line.look.light}
        axes.annotate(line.label, ends[number], (right + 19, height), arrowprops=arrow, **pixels | named)


def _svg(figure: Figure, title: str) -> str:
    """The figure as an element of a page: colours are its variables, fonts its own, and no id is there twice."""
    with io.StringIO() as buffer:
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=none)
        drawn = buffer.getvalue()
    drawn = drawn[drawn.index("</defs>") + len("</defs>") :]  # after the file's header and its rules for all elements
    clips = r'<defs>\s*<clipPath.*?</defs>| clip-path="[^"]*"'  # nothing is drawn beyond the axes
    drawn = re.sub(rf'{clips}| id="[A-Za-z0-9.]*_\d+"| font-family: [^;"]*;?', "", drawn, flags=re.DOTALL)
    for name, (light, _) in COLOURS.items():
        drawn = drawn.replace(light, f"var(--{name})")
    size = f"{WIDTH} {figure.get_figheight() * 72:g}"
    name = escape(title)
    return f'<svg viewBox="0 0 {size}" role="img" aria-label="{name}"><title>{name}</title>{drawn}'
