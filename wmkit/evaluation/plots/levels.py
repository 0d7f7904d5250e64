"""Pictures of the analyses (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from einops import rearrange, repeat
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from wmkit.evaluation.levels.entropy import OPEN_LOOP, POSTERIOR, PRIOR, LevelEntropy
from wmkit.evaluation.levels.kl import LevelKL
from wmkit.evaluation.levels.reading import PriorLevels, name_of
from wmkit.evaluation.levels.reset import IMAGINED, IN_CONTEXT, LevelReset
from wmkit.evaluation.levels.samples import LevelSamples
from wmkit.evaluation.levels.speeds import SpeedAdaptation
from wmkit.evaluation.levels.times import TrainingTime
from wmkit.evaluation.plots.curves import draw_curve, finish_panel
from wmkit.evaluation.plots.strips import DOTS_PER_INCH, QUERY_STEPS, show_image
from wmkit.evaluation.plots.video import Frame
from wmkit.evaluation.predictors import IMAGINED as IMAGINED_FRAMES
from wmkit.evaluation.predictors import predictor
from wmkit.evaluation.record import Measurements

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
"""Of levels, bottom first."""
LINES = {PRIOR: ("0.45", "-"), POSTERIOR: ("tab:blue", "-"), OPEN_LOOP: ("tab:orange", "-")}
NEAR_ZERO = 0.01
"""Where a logarithmic axis of bits or nats becomes linear, so that a collapsed level still has a place on it."""


def draw_kl(found: Mapping[str, LevelKL], path: Path) -> None:
    """Bits per clip of every level, the unit of TALD's Table 1, one group of bars for each run."""
    figure = Figure(figsize=(2.6 + 1.5 * len(found), 4.0), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    most = max(kl.levels for kl in found.values())
    for level in range(1, most + 1):
        having = [(group, kl) for group, kl in enumerate(found.values()) if level <= kl.levels]
        places = [group + (level - (kl.levels + 1) / 2) * 0.8 / most for group, kl in having]
        heights, halves = [kl.bits(level).mean for _, kl in having], [kl.bits(level).half_width for _, kl in having]
        axes.bar(places, heights, 0.8 / most, yerr=halves, color=_colour(level), label=f"level {level}", capsize=2)
        for place, height in zip(places, heights, strict=True):
            axes.annotate(f"{height:.3g}", (place, height), (0, 4), textcoords="offset points", ha="center", fontsize=7)
    axes.set_yscale("symlog", linthresh=NEAR_ZERO)
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(len(found)), list(found), fontsize=8)
    axes.set_ylabel("KL(q || p), bits per clip")
    first = next(iter(found.values()))
    axes.set_title(
        f"{first.length} frames, mean and 95 % interval over {len(first.per_clip)} held-out clips", fontsize=9
    )
    axes.grid(axis="y", alpha=0.25)
    axes.legend(fontsize=8)
    figure.savefig(path)


def draw_entropy(found: LevelEntropy, path: Path, title: str) -> None:
    """One panel per level, the top one first: the context to the left of the line, the query to its right."""
    figure = Figure(figsize=(8.0, 1.2 + 1.7 * len(found.levels)), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(len(found.levels), 1, sharex=True, squeeze=False)[::-1, 0]
    for number, (axes, curves) in enumerate(zip(panels, found.levels, strict=True), start=1):
        for name, (colour, style) in LINES.items():
            draw_curve(axes, curves[name].over_clips(), name, colour, style)
        axes.axvline(0.5, color="0.2", linewidth=0.8)
        axes.set_ylabel(f"level {number}\nentropy, nats", fontsize=9)
        axes.grid(alpha=0.25)
    panels[0].set_xlabel(f"frames after the context of {found.context}")
    panels[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.suptitle(
        f"{title}\nopen loop: the prior, with no frame seen after the line; the others go on seeing", fontsize=9
    )
    figure.savefig(path)


def draw_reset(found: LevelReset, path: Path, title: str, last: int) -> None:
    """Above: each subset of levels on their priors, and its means. Below: some of them over time."""
    names = found.names
    figure = Figure(figsize=(1.4 + 3.4 * len(names), 3.2 + 0.32 * len(found.measures)), dpi=DOTS_PER_INCH)
    figure.set_layout_engine("constrained")
    ratios = [0.16 * found.levels, *(1.0 for _ in names)]
    grid = figure.subplots(2, 1 + len(names), width_ratios=ratios, height_ratios=[0.32 * len(found.measures), 2.2])
    _who_sees(grid[0, 0], found)
    grid[1, 0].axis("off")
    for column, name in enumerate(names, start=1):
        _means(grid[0, column], found, name, last)
        _curves(grid[1, column], found, name)
    grid[1, -1].legend(fontsize=7)
    clips = len(found.measures[()][names[0]])
    figure.suptitle(f"{title}\ncontexts of {found.context} frames, {clips} held-out clips", fontsize=9)
    figure.savefig(path)


def draw_samples(found: LevelSamples, path: Path, title: str) -> None:
    """The truth, then for each condition its draws, at several times."""
    times = _times(found.context, len(found.truth) - found.context)
    rows = [("truth", found.truth / 255)]
    for name, draws in found.frames.items():
        rows += [(name if number == 0 else "", draw) for number, draw in enumerate(draws)]
    figure = Figure(figsize=(1.9 + 0.62 * len(times), 0.8 + 0.62 * len(rows)), dpi=DOTS_PER_INCH)
    figure.set_layout_engine("constrained", h_pad=0.01, w_pad=0.01)
    grid = figure.subplots(len(rows), len(times), squeeze=False)
    for line, (name, frames) in zip(grid, rows, strict=True):
        for axes, time in zip(line, times, strict=True):
            show_image(axes, _pixels(frames[time]), time < found.context)
        line[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    for axes, time in zip(grid[0], times, strict=True):
        axes.set_title(f"{time + 1 - found.context:+d}" if time >= found.context else f"seen {time + 1}", fontsize=8)
    figure.suptitle(f"{title}\nblue: in the context, orange: imagined", fontsize=9)
    figure.savefig(path)


def draw_speeds(found: SpeedAdaptation, path: Path) -> None:
    """One panel per level: every run a dot, their mean at each speed a bar."""
    figure = Figure(figsize=(1.0 + 2.6 * found.levels, 3.4), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(1, found.levels, squeeze=False)[0]
    places = range(len(found.speeds))
    for level, axes in enumerate(panels, start=1):
        axes.bar(places, found.means(level), 0.6, color=_colour(level), alpha=0.45)
        for place, speed in zip(places, found.speeds, strict=True):
            nats = found.at(speed, level)
            axes.plot([place] * len(nats), nats, "o", color=_colour(level), markersize=4)
        axes.set_xticks(places, [_speed(speed) for speed in found.speeds])
        axes.set_title(f"level {level}", fontsize=10)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("speed of the digits")
        axes.grid(axis="y", alpha=0.25)
    panels[0].set_ylabel("KL(q || p), nats per clip")
    length = found.runs[0].kl.length
    figure.suptitle(f"clips of {length} frames; a dot is a run of its own, a bar their mean", fontsize=9)
    figure.savefig(path)


def draw_horizon(found: Mapping[str, Measurements], path: Path, title: str) -> None:
    """One panel per measure: a line for each run, beside what needs no model."""
    first = next(iter(found.values()))
    rows = -(-len(first.measures) // 2)
    figure = Figure(figsize=(11.0, 3.0 * rows + 0.6), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, measure in zip(panels, first.measures, strict=False):
        for number, (label, one) in enumerate(found.items()):
            draw_curve(axes, one.curve(measure, IMAGINED_FRAMES), label, f"C{number}")
        for name in first.predictors(measure):
            if name != IMAGINED_FRAMES:
                known = predictor(name)
                draw_curve(axes, first.curve(measure, name), known.label, known.colour, known.dash)
        finish_panel(axes, first.metrics[measure], first.horizon)
        axes.set_xlabel("frames after the context", fontsize=8)
    for axes in panels[len(first.measures) :]:
        axes.axis("off")
    handles = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle(
        f"{title}, {first.episodes} held-out clips, {first.context} frames seen; bands: 95 % over clips", fontsize=9
    )
    figure.savefig(path)


def draw_times(found: Sequence[TrainingTime], base: TrainingTime, path: Path) -> None:
    """Training time of as many frames, relative to `base`."""
    figure = Figure(figsize=(6.0, 1.0 + 0.4 * len(found)), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    relative = [time.relative_to(base) for time in found]
    axes.barh([time.label for time in found], relative, color="tab:blue", alpha=0.6)
    for place, (time, value) in enumerate(zip(found, relative, strict=True)):
        axes.text(value, place, f" {value:.2f}  ({time.milliseconds:.0f} ms a step)", va="center", fontsize=8)
    axes.set_xlim(0, 1.45 * max(relative))
    axes.invert_yaxis()
    axes.set_xlabel(f"training time per frame, relative to {base.label}")
    figure.savefig(path)


def _who_sees(axes: Axes, found: LevelReset) -> None:
    """A dot for each level and condition, filled where the level sees the context."""
    for row, prior_levels in enumerate(found.measures):
        for level in range(1, found.levels + 1):
            face = "none" if level in prior_levels else _colour(level)
            axes.plot(level, row, "o", markersize=7, markerfacecolor=face, markeredgecolor=_colour(level))
    axes.set_xlim(0.5, found.levels + 0.5)
    axes.set_ylim(len(found.measures) - 0.5, -0.5)
    axes.set_xticks(range(1, found.levels + 1))
    axes.set_yticks([])
    axes.set_xlabel("level sees", fontsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _means(axes: Axes, found: LevelReset, name: str, last: int) -> None:
    """One row per condition; the dotted lines are those of all and of none that see, imagined."""
    for part, face, shift in ((IN_CONTEXT, "none", -0.13), (IMAGINED, "0.2", 0.13)):
        estimates = [found.over(prior_levels, name, last)[part] for prior_levels in found.measures]
        means, halves = [x.mean for x in estimates], [x.half_width for x in estimates]
        places = [row + shift for row in range(len(estimates))]
        axes.errorbar(means, places, xerr=halves, fmt="o", color="0.2", mfc=face, markersize=4.5, capsize=2, label=part)
    for prior_levels in (_all_see(), _none_sees(found)):
        axes.axvline(found.over(prior_levels, name, last)[IMAGINED].mean, color="0.5", linewidth=0.8, linestyle=":")
    axes.set_ylim(len(found.measures) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_title(
        f"{name.replace('_', ' ')}: the last {found.seen} frames seen, {min(last, found.horizon)} imagined", fontsize=8
    )
    axes.grid(axis="x", alpha=0.25)
    axes.legend(fontsize=7)


def _curves(axes: Axes, found: LevelReset, name: str) -> None:
    """Over time: all see, each level on its prior in turn, none sees; the context lies to the left of the line."""
    draw_curve(axes, found.curve(_all_see(), name), name_of(_all_see(), found.levels), "0.2")
    if found.levels > 1:
        for level in range(1, found.levels + 1):
            label = name_of((level,), found.levels)
            draw_curve(axes, found.curve((level,), name), label, _colour(level))
    prior_levels = _none_sees(found)
    draw_curve(axes, found.curve(prior_levels, name), name_of(prior_levels, found.levels), "0.5", ":")
    axes.axvline(0.5, color="0.2", linewidth=0.8)
    axes.set_xlabel("frames after the context")
    axes.set_ylabel(name.replace("_", " "), fontsize=8)
    axes.grid(alpha=0.25)


def _all_see() -> PriorLevels:
    return ()


def _none_sees(found: LevelReset) -> PriorLevels:
    return tuple(range(1, found.levels + 1))


def _times(context: int, horizon: int) -> list[int]:
    """The last three context steps, then growing steps of the query."""
    query = sorted({*(step for step in QUERY_STEPS if step <= horizon), horizon})
    return [*range(max(0, context - 3), context), *(context + step - 1 for step in query)]


def _pixels(image: Tensor) -> Frame:
    """(C, H, W) in [0, 1] -> (H, W, 3) bytes."""
    image = (image * 255).round().byte()
    return repeat(image.numpy(), "1 h w -> h w 3") if len(image) == 1 else rearrange(image.numpy(), "c h w -> h w c")


def _speed(speed: float) -> str:
    """`x1/3`, `x1`, `x3`."""
    return f"x{speed:g}" if speed >= 1 else f"x1/{1 / speed:g}"


def _colour(level: int) -> str:
    """Of a level, counted from 1."""
    return COLOURS[(level - 1) % len(COLOURS)]
