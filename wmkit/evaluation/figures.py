"""Pictures of an evaluation (matplotlib, without a display): the strip and the per-step error curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmkit.evaluation.film import CONTEXT_COLOUR, QUERY_COLOUR, Film, Frame
from wmkit.evaluation.old_predictors import (
    COPY_LAST,
    FIRST_MAP,
    GENERATION,
    MEAN_IMAGE,
    MISLED,
    OTHER_FRAME,
    RECONSTRUCTION,
)
from wmkit.evaluation.report import Evaluation

QUERY_STEPS = (1, 2, 5, 10, 20, 35, 50)
CONTEXT_COLUMNS = 3
LINES = {
    RECONSTRUCTION: ("tab:blue", "-"),
    GENERATION: ("tab:orange", "-"),
    MISLED: ("tab:red", "-"),
    MEAN_IMAGE: ("0.35", "--"),
    OTHER_FRAME: ("0.35", ":"),
    COPY_LAST: ("0.35", "-."),
    FIRST_MAP: ("tab:green", "--"),
}
DOTS_PER_INCH = 110


def draw_strip(film: Film, path: Path, title: str) -> None:
    """Truth above model at several times for every episode: the context framed in blue, the query in orange."""
    times = strip_times(film.context, film.horizon)
    rows = 2 * film.episodes
    figure = Figure(figsize=(1.05 * len(times) + 0.7, 1.08 * rows + 0.9), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(rows, len(times), squeeze=False)
    for row in range(rows):
        source = film.model if row % 2 else film.truth
        for column, time in enumerate(times):
            _show(axes[row, column], film.frame(source, row // 2, time), time < film.context)
        axes[row, 0].set_ylabel("model" if row % 2 else f"truth {row // 2 + 1}", fontsize=9)
    for column, time in enumerate(times):
        axes[0, column].set_title(_heading(film, time), fontsize=9)
    figure.suptitle(
        f"{title}\nblue: context (the model reconstructs what it sees), orange: query (the model imagines)", fontsize=10
    )
    figure.savefig(path)


def draw_curve(evaluation: Evaluation, path: Path, title: str) -> None:
    """Error against the horizon for the model and the baselines, each with its 95 % interval over episodes."""
    figure = Figure(figsize=(8.0, 4.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    steps = np.arange(1, evaluation.horizon + 1)
    for name, (colour, style) in LINES.items():
        if name not in evaluation.on_query:
            continue
        errors = evaluation.on_query[name]
        mean, half = errors.mean().numpy(), errors.half_width().numpy()
        axes.plot(steps, mean, color=colour, linestyle=style, label=name, linewidth=1.6)
        axes.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.13, linewidth=0)
    axes.set_xlabel(f"steps after the context of {evaluation.context} observations")
    axes.set_ylabel("squared error per frame\n(sum over H, W, C; pixels in [0, 1])")
    axes.set_ylim(bottom=0)
    axes.set_xlim(1, max(2, evaluation.horizon))
    axes.set_title(f"{title}\nmean and 95 % interval over {evaluation.episodes} held-out episodes", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(path)


def strip_times(context: int, horizon: int) -> list[int]:
    """Indices into the film: a few evenly spaced context steps up to the last one, then growing query steps."""
    seen = np.linspace(0, context - 1, CONTEXT_COLUMNS + 1)[1:].round().astype(int).tolist()
    query = sorted({*(step for step in QUERY_STEPS if step <= horizon), horizon})
    return sorted(set(seen)) + [context + step - 1 for step in query]


def _heading(film: Film, time: int) -> str:
    return f"seen {time + 1}" if time < film.context else f"+{time + 1 - film.context}"


def _show(axes: Axes, image: Frame, in_context: bool) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    red, green, blue = CONTEXT_COLOUR if in_context else QUERY_COLOUR
    for spine in axes.spines.values():
        spine.set_color((red / 255, green / 255, blue / 255))
        spine.set_linewidth(2.5)
