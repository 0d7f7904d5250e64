"""Figures of an evaluation, by matplotlib without a display: strips of frames, and curves over the query."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmkit.evaluation.plots.look import own_look
from wmkit.evaluation.plots.video import CONTEXT_COLOUR, QUERY_COLOUR, Picture, Video, heading, strip_times
from wmkit.evaluation.predictors import Dash, predictor
from wmkit.evaluation.record import Curve, Measurements, Metric

DOTS_PER_INCH = 110
LETTERS_PER_INCH = 12
"""Of a title: a line that is longer than the figure is wide is broken."""
PANELS_ABREAST = 2
STRIPS = 3
"""Episodes of a strip at most."""


@own_look()
def draw_strip(video: Video, path: Path, title: str) -> None:
    """Truth above model, and that above the model without memory if the video has it, at several times of the first few
    episodes: the context framed in blue, the query in orange.
    """
    times = strip_times(video.context, video.horizon)
    sources = {"truth": video.truth, "model": video.model}  # each ends with the query
    if video.no_memory is not None:
        sources["no memory"] = video.no_memory
    episodes = min(video.episodes, STRIPS)
    rows = len(sources) * episodes
    figure = Figure(figsize=(1.05 * len(times) + 0.7, 1.08 * rows + 0.9), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(rows, len(times), squeeze=False)
    for row, (episode, (name, source)) in enumerate(itertools.product(range(episodes), sources.items())):
        for column, time in enumerate(times):
            from_end = time - video.truth.shape[1]
            if -from_end <= source.shape[1]:
                show_image(axes[row, column], video.frame(source, episode, from_end), time < video.context)
            else:
                axes[row, column].set(xticks=[], yticks=[])
                axes[row, column].spines[:].set_visible(False)
        axes[row, 0].set_ylabel(f"{name} {episode + 1}" if name == "truth" else name, fontsize=9)
    for column, time in enumerate(times):
        axes[0, column].set_title(heading(time, video.context), fontsize=9)
    notes = ["blue: context (the model reconstructs what it sees), orange: query (the model imagines)"]
    if video.no_memory is not None:
        notes.append("no memory: the same model, begun at the last frame of the context")
    _entitle(figure, title, *notes)
    figure.savefig(path)


def _entitle(figure: Figure, *lines: str) -> None:
    """The lines above the figure, broken where they are longer than it is wide."""
    width = int(LETTERS_PER_INCH * figure.get_figwidth())
    wrapped = [part for line in lines for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(wrapped), fontsize=10, parse_math=False)


def show_image(axes: Axes, image: Picture, in_context: bool) -> None:
    """One frame, blue in the context and orange after it."""
    axes.imshow(image, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    red, green, blue = CONTEXT_COLOUR if in_context else QUERY_COLOUR
    for spine in axes.spines.values():
        spine.set_color((red / 255, green / 255, blue / 255))
        spine.set_linewidth(2.5)


@own_look()
def draw_curves(measurements: Measurements, path: Path, title: str) -> None:
    """A panel for every measure that has a value for each step; without such measures nothing is written."""
    measures = [name for name in measurements.measures if measurements.has_steps(name)]
    if not measures:
        return
    columns = min(PANELS_ABREAST, len(measures) + 1)
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
    _entitle(figure, title, "mean and 95 % interval over held-out episodes")
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
