"""Frame strips: a few episodes at several times, truth above model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmkit.evaluation.plots.video import CONTEXT_COLOUR, QUERY_COLOUR, Frame, Video

QUERY_STEPS = (1, 2, 5, 10, 20, 35, 50)
CONTEXT_COLUMNS = 3
DOTS_PER_INCH = 110


def draw_strip(video: Video, path: Path, title: str) -> None:
    """Truth above model at several times for every episode: the context framed in blue, the query in orange."""
    times = strip_times(video.context, video.horizon)
    rows = 2 * video.episodes
    figure = Figure(figsize=(1.05 * len(times) + 0.7, 1.08 * rows + 0.9), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(rows, len(times), squeeze=False)
    for row in range(rows):
        source = video.model if row % 2 else video.truth
        for column, time in enumerate(times):
            show_image(axes[row, column], video.frame(source, row // 2, time), time < video.context)
        axes[row, 0].set_ylabel("model" if row % 2 else f"truth {row // 2 + 1}", fontsize=9)
    for column, time in enumerate(times):
        axes[0, column].set_title(
            f"seen {time + 1}" if time < video.context else f"+{time + 1 - video.context}", fontsize=9
        )
    figure.suptitle(
        f"{title}\nblue: context (the model reconstructs what it sees), orange: query (the model imagines)", fontsize=10
    )
    figure.savefig(path)


def strip_times(context: int, horizon: int) -> list[int]:
    """Indices into the video: a few evenly spaced context steps up to the last one, then growing query steps."""
    seen = np.linspace(0, context - 1, CONTEXT_COLUMNS + 1)[1:].round().astype(int).tolist()
    query = sorted({*(step for step in QUERY_STEPS if step <= horizon), horizon})
    return sorted(set(seen)) + [context + step - 1 for step in query]


def show_image(axes: Axes, image: Frame, in_context: bool) -> None:
    """One frame, blue in the context and orange after it."""
    axes.imshow(image, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    red, green, blue = CONTEXT_COLOUR if in_context else QUERY_COLOUR
    for spine in axes.spines.values():
        spine.set_color((red / 255, green / 255, blue / 255))
        spine.set_linewidth(2.5)
