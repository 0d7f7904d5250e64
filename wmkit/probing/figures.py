"""Figures of probes: recall against the delay, the context and along imagination; the map that a model has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from PIL import Image, ImageDraw

from wmkit.evaluation.plots.figures import DOTS_PER_INCH, PANELS_ABREAST, draw_curve
from wmkit.evaluation.plots.look import Look, own_look
from wmkit.evaluation.predictors import CONSTANT, CONTROL, OBSERVED, predictor
from wmkit.evaluation.record import Metric
from wmkit.probing.results import NOT_ADMITTED, ProbeMeasurements, ProbeResults

ALONG = {
    "delay": "steps since it was last in view (0: in view)",
    "contexts": "frames seen before the answer",
    "imagined": "steps imagined after the context",
    "reach": "steps back from the last one",
    "swap": "steps imagined after the swap",
    "reset": "steps imagined after the reset",
}
"""Labels of the axes that have a figure of their own."""
TIMES = 8
CELL, GAP = 14, 10
"""Pixels of a cell in the film of a map, and between its two maps."""
LONGEST, MILLISECONDS = 200, 100
"""Pages of a film at most, and how long one is shown."""
FREE, WALL, UNKNOWN, WRONG, AGENT = (255, 255, 255), (40, 40, 48), (150, 150, 158), (214, 39, 40), (31, 119, 180)


def draw_all(results: ProbeResults, folder: Path, title: str) -> list[Path]:
    """`recall.png` (against the delay), `contexts.png`, `imagined.png`, `reach.png`, `swap.png`, `reset.png`; and
    where a maze was probed `map.png` and `map.gif`. Returns what was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for axis, label in ALONG.items():
        if axis in results.by_axis:
            path = folder / f"{'recall' if axis == 'delay' else axis}.png"
            _draw_axis(results, axis, label, path, title)
            written.append(path)
    found = [] if results.answers is None else sorted(results.answers.glob("walls-*-mlp-observed-*.npz"))
    if found:
        with np.load(found[0]) as answers:
            shown = dict(answers)
        draw_map_strip(shown, folder / "map.png", title)
        write_map_film(shown, folder / "map.gif")
        written += [folder / "map.png", folder / "map.gif"]
    return written


@own_look()
def _draw_axis(results: ProbeResults, axis: str, label: str, path: Path, title: str) -> None:
    """A panel for every measure that is admitted, with each row's curve; of delays also the effective horizon."""
    found: ProbeMeasurements = results.by_axis[axis]
    heads = results.steps.about["heads"]
    measures = [name for name in found.measures if name.endswith(f"_{heads[0]}")] or found.measures
    columns = min(PANELS_ABREAST, len(measures))
    rows = -(-len(measures) // columns)
    figure = Figure(figsize=(5.5 * columns, 3.3 * rows + 0.6), dpi=DOTS_PER_INCH, layout="constrained")
    panels: list[Axes] = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    horizons = results.horizons() if axis == "delay" else {}
    for axes, measure in zip(panels, measures, strict=False):
        metric = found.metrics[measure]
        if measure in results.steps.refused:
            axes.set_title(f"{metric.title}\n{NOT_ADMITTED}: it cannot tell what is in view", fontsize=9)
            axes.axis("off")
            continue
        for row in found.predictors(measure):
            known = predictor(row)
            if row != CONTROL:
                draw_curve(axes, found.curve(measure, row), known.label, known.colour, known.dash)
        if measure in horizons and np.isfinite(horizons[measure].delay):
            axes.axvline(horizons[measure].delay, color="0.6", linewidth=1)
            axes.text(horizons[measure].delay, 0.02, f" horizon {horizons[measure]}", fontsize=8, color="0.4",
                      transform=axes.get_xaxis_transform())  # fmt: skip
        if metric.better == "lower":
            axes.set_ylim(bottom=0)
        _finish(axes, metric, label, axis in ("delay", "contexts"), judged=axis not in ("reach", "swap", "reset"))
    for axes in panels[len(measures) :]:
        axes.axis("off")
    figure.suptitle(f"{title}\nmean and {found.interval}", fontsize=10)
    figure.savefig(path)


@own_look()
def draw_systems(found: Mapping[str, ProbeResults], path: Path) -> bool:
    """Recall against the delay, a line for each system in which a probe is admitted, and the constant answer: a panel
    for each probe. Returns whether there was anything to draw.
    """
    first = next(iter(found.values()))
    head = first.steps.about["heads"][0]
    delays = {system: results.by_axis["delay"] for system, results in found.items() if "delay" in results.by_axis}
    measures = [name for name in first.steps.measures if name.endswith(f"_{head}")]
    measures = [name for name in measures if any(OBSERVED in one.predictors(name) for one in delays.values())]
    if not measures:
        return False
    figure = Figure(figsize=(5.5 * len(measures), 3.8), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    for axes, measure in zip(panels, measures, strict=True):
        there = {system: one for system, one in delays.items() if OBSERVED in one.predictors(measure)}
        for number, system in enumerate(found):
            look = Look.of_system(number)
            if measure in found[system].steps.refused:
                axes.plot([], [], color=look.light, linestyle=look.dash, label=f"{system}: {NOT_ADMITTED}")
            elif system in there:
                draw_curve(axes, there[system].curve(measure, OBSERVED), system, look.light, look.dash)
        known, any_one = predictor(CONSTANT), next(iter(there.values()))
        draw_curve(axes, any_one.curve(measure, CONSTANT), known.label, known.colour, known.dash)
        _finish(axes, any_one.metrics[measure], ALONG["delay"], logarithmic=True)
    figure.savefig(path)
    return True


def _finish(axes: Axes, metric: Metric, label: str, logarithmic: bool, judged: bool = True) -> None:
    """Title, axes, grid and legend of a panel. judged: whether more or less of it is better."""
    if logarithmic:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_title(f"{metric.title}\n{metric.unit}" + (f"; {metric.better} is better" if judged else ""), fontsize=9)
    axes.set_xlabel(label, fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)


@own_look()
def draw_map_strip(shown: Mapping[str, npt.NDArray[Any]], path: Path, title: str) -> None:
    """How the map fills in: what the probe reads off the state at several steps, above what was in view by then."""
    steps, chance = shown["steps"], _free(shown)
    target, seen = shown["target"], shown["delay"] >= 0
    chosen = np.unique(np.linspace(0, len(steps) - 1, TIMES).round().astype(int))
    figure = Figure(figsize=(1.25 * len(chosen) + 0.9, 3.3), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(2, len(chosen), squeeze=False)
    for column, place in enumerate(chosen.tolist()):
        right = ((chance[place] > 0.5) == target[place]).mean()
        known = np.where(seen[place], target[place], 0.6)
        for row, picture in enumerate((chance[place], known)):
            axes = panels[row, column]
            height, width = picture.shape
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, origin="lower", extent=(0, width, 0, height))
            axes.plot(*_position(shown, place), "o", color="tab:blue", markersize=4)
            axes.set_xticks([])
            axes.set_yticks([])
        panels[0, column].set_title(f"step {steps[place] + 1}\n{right:.0%} right", fontsize=9)
    panels[0, 0].set_ylabel("read off the state", fontsize=9)
    panels[1, 0].set_ylabel("in view so far", fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def write_map_film(shown: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    """Beside each other the map that is read off the state, wrong cells marked in red, and the true one, in which cells
    that were not in view yet are grey; the blue dot is the walker.
    """
    chance, target, seen = _free(shown), shown["target"], shown["delay"] >= 0
    height, width = target.shape[1:]
    pages = []
    for place in range(0, len(chance), -(-len(chance) // LONGEST)):
        page = Image.new("RGB", (2 * CELL * width + 3 * GAP, CELL * height + 2 * GAP), UNKNOWN)
        draw = ImageDraw.Draw(page)
        for number in range(2):
            left = GAP + number * (CELL * width + GAP)
            for y in range(height):
                for x in range(width):
                    top = GAP + CELL * (height - 1 - y)
                    share = float(target[place, y, x]) if number else float(chance[place, y, x])
                    mixed = tuple(round(share * a + (1 - share) * b) for a, b in zip(FREE, WALL, strict=True))
                    colour = mixed if number == 0 or seen[place, y, x] else UNKNOWN
                    draw.rectangle((left + CELL * x, top, left + CELL * (x + 1) - 1, top + CELL - 1), fill=colour)
                    if number == 0 and (share > 0.5) != bool(target[place, y, x]):
                        draw.rectangle((left + CELL * x + 4, top + 4, left + CELL * (x + 1) - 5, top + CELL - 5), WRONG)
            across, up = _position(shown, place)
            middle = left + CELL * across, GAP + CELL * (height - up)
            draw.ellipse((middle[0] - 4, middle[1] - 4, middle[0] + 4, middle[1] + 4), AGENT)
        pages.append(page)
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=MILLISECONDS, loop=0)


def _free(shown: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """(S, h, w): how likely each cell is free, as the probe says."""
    odds = np.asarray(shown["output"], np.float64)  # (S, h, w, 2)
    return 1 / (1 + np.exp(np.clip(odds[..., 0] - odds[..., 1], -50, 50)))


def _position(shown: Mapping[str, npt.NDArray[Any]], place: int) -> tuple[float, float]:
    """The walker's x and y in cells, from the pose that the probe was told."""
    height, width = shown["target"].shape[1:]
    told = np.asarray(shown["inputs"], np.float64)[place]
    return (told[0] + 1) / 2 * width, (told[1] + 1) / 2 * height
