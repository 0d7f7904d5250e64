"""Curves over the query, one panel per measure: every predictor with its one line, mean and 95 % interval."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmkit.evaluation.plots.strips import DOTS_PER_INCH
from wmkit.evaluation.predictors import Dash, predictor
from wmkit.evaluation.record import Curve, Measurements, Metric

COLUMNS = 2


def draw_curves(measurements: Measurements, path: Path, title: str) -> None:
    """Every measure that has a value for each step; a picture without panels is not written."""
    measures = [name for name in measurements.measures if measurements.has_steps(name)]
    if not measures:
        return
    columns = min(COLUMNS, len(measures) + 1)
    rows = -(-(len(measures) + 1) // columns)  # one panel is the legend's
    figure = Figure(figsize=(5.5 * columns, 3.4 * rows + 0.5), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axes, measure in zip(panels, measures, strict=False):
        metric = measurements.metrics[measure]
        for name in measurements.predictors(measure):
            known = predictor(name)
            draw_curve(axes, measurements.curve(measure, name), known.label, known.colour, known.dash)
        finish_panel(axes, metric, measurements.horizon)
        axes.set_xlabel(f"steps after the context of {measurements.context}", fontsize=9)
    for axes in panels[len(measures) :]:
        axes.axis("off")
    handles = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    panels[len(measures)].legend(handles.values(), handles.keys(), loc="center", frameon=False)
    figure.suptitle(f"{title}\nmean and 95 % interval over held-out episodes", fontsize=10)
    figure.savefig(path)


def draw_curve(axes: Axes, curve: Curve, label: str, colour: str, dash: Dash = "-") -> None:
    """The mean, and its interval as a band; marked where there are few steps."""
    marker = "o" if len(curve.steps) < 12 else ""
    [line] = axes.plot(curve.steps, curve.mean, label=label, color=colour, linestyle=dash, linewidth=1.5)
    line.set(marker=marker, markersize=2.5)
    axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0)


def finish_panel(axes: Axes, metric: Metric, horizon: int) -> None:
    """Title, grid and limits of a panel over the query."""
    axes.set_title(f"{metric.title}\n{metric.unit}; {metric.better} is better", fontsize=9)
    axes.set_xlim(1, max(2, horizon))
    if metric.better == "lower":
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
