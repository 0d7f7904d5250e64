"""The figure of an open-loop evaluation (matplotlib, without a display): one panel per metric, frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmkit.evaluation.figures import DOTS_PER_INCH
from wmkit.evaluation.video.report import (
    BLACK,
    COPY_LAST,
    GENERATION,
    MEAN_IMAGE,
    OTHER_CLIP,
    TITLES,
    TRUE_FRAMES,
    VideoEvaluation,
    best_of,
)

LINES = {
    GENERATION: ("tab:orange", "-"),
    TRUE_FRAMES: ("tab:green", "-"),
    BLACK: ("0.15", "-"),
    MEAN_IMAGE: ("0.45", "--"),
    COPY_LAST: ("0.45", "-."),
    OTHER_CLIP: ("0.45", ":"),
}
COLUMNS = 2


def draw_video_curves(evaluation: VideoEvaluation, path: Path, title: str) -> None:
    """Every metric against the horizon, mean and 95 % interval over clips; the floors in grey."""
    rows = -(-(len(evaluation.curves) + 1) // COLUMNS)
    figure = Figure(figsize=(11.0, 3.1 * rows + 0.5), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten().tolist()
    for axes, metric in zip(panels, evaluation.curves, strict=False):
        _draw(axes, evaluation, metric)
    for axes in panels[len(evaluation.curves) :]:
        axes.axis("off")
    handles = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    panels[len(evaluation.curves)].legend(handles.values(), handles.keys(), loc="center", frameon=False)
    figure.suptitle(
        f"{title}\n{evaluation.clips} held-out clips, {evaluation.context} frames seen; bands: 95 % over clips"
    )
    figure.savefig(path)


def _draw(axes: Axes, evaluation: VideoEvaluation, metric: str) -> None:
    steps = np.arange(1, evaluation.horizon + 1)
    for name, errors in evaluation.curves[metric].items():
        colour, style = (LINES | {best_of(evaluation.samples): ("tab:blue", "-")})[name]
        mean, half = errors.mean().numpy(), errors.half_width().numpy()
        axes.plot(steps, mean, color=colour, linestyle=style, label=name, linewidth=1.5)
        axes.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.13, linewidth=0)
    axes.set_title(TITLES[metric], fontsize=10)
    axes.set_xlabel("frames after the context", fontsize=9)
    axes.set_xlim(1, max(2, evaluation.horizon))
    axes.grid(alpha=0.25)
