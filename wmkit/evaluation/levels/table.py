"""The analyses as tables for the terminal (rich)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from wmkit.evaluation.errors import Estimate
from wmkit.evaluation.levels.entropy import OPEN_LOOP, POSTERIOR, PRIOR, Curve, LevelEntropy
from wmkit.evaluation.levels.kl import LevelKL, scaled
from wmkit.evaluation.levels.reading import name_of
from wmkit.evaluation.levels.reset import IMAGINED, IN_CONTEXT, LevelReset
from wmkit.evaluation.levels.samples import PARTS, LevelSamples
from wmkit.evaluation.levels.speeds import SpeedAdaptation
from wmkit.evaluation.levels.times import TrainingTime
from wmkit.evaluation.ranges import label
from wmkit.evaluation.video.report import GENERATION, VideoEvaluation


def kl_table(found: Mapping[str, LevelKL]) -> Table:
    """TALD's Table 1: one row per run, one column per level; bits per clip, below them nats per clip and per frame."""
    first = next(iter(found.values()))
    table = _table(
        f"KL per level, {first.length} frames, {len(first.per_clip)} held-out clips",
        "Bits per clip, in brackets nats per clip, nats per frame. ± 1.96 standard errors over clips.",
        ["run", *(f"level {level}" for level in range(1, max(kl.levels for kl in found.values()) + 1))],
    )
    for run, kl in found.items():
        table.add_row(run, *(_kl(kl, level) for level in range(1, kl.levels + 1)))
    return table


def entropy_table(found: LevelEntropy) -> Table:
    """Means over the ticks of each curve, in the context and after it."""
    parts = [(name, part) for name in (PRIOR, POSTERIOR) for part in PARTS] + [(OPEN_LOOP, PARTS[1])]
    table = _table(
        f"Entropy per level in nats, context {found.context} | query {found.horizon}",
        "Mean over ticks. In the query, prior and posterior see the frames, open loop does not.",
        ["level", *(f"{name}, {part}" for name, part in parts)],
    )
    for number, curves in enumerate(found.levels, start=1):
        table.add_row(str(number), *(_mean_entropy(curves[name], part == PARTS[0]) for name, part in parts))
    return table


def reset_table(found: LevelReset, last: int) -> Table:
    """One row per subset of blind levels, two columns per measure."""
    table = _table(
        f"Digits by which levels saw the context: its last {found.seen} frames, "
        f"then the first {min(last, found.horizon)} imagined ones",
        "± 1.96 standard errors over clips. None sees: the floor.",
        ["context", *(f"{name.replace('_', ' ')}, {part}" for name in found.names for part in (IN_CONTEXT, IMAGINED))],
    )
    for blind in found.measures:
        cells = [_pm(value) for name in found.names for value in found.over(blind, name, last).values()]
        table.add_row(name_of(blind, found.levels), *cells)
    return table


def samples_table(found: LevelSamples) -> Table:
    """One row per condition."""
    table = _table(
        "Samples of one clip by which levels saw its context",
        "Per frame, summed over pixels. Error: against the truth; spread: variance from draw to draw.",
        ["context", *(f"{what}, {part}" for what in ("error", "spread") for part in PARTS)],
    )
    for name in found.frames:
        table.add_row(name, *(f"{value:.2f}" for value in (*found.error(name), *found.spread(name))))
    return table


def speeds_table(found: SpeedAdaptation) -> Table:
    """One row per speed, one column per level: mean over runs, and the runs."""
    table = _table(
        f"KL per level by speed, nats per clip of {found.runs[0].kl.length} frames",
        "\n".join(["Mean over separately trained runs, in brackets each of them.", *map(str, found.verdicts())]),
        ["speed", *(f"level {level}" for level in range(1, found.levels + 1))],
    )
    for place, speed in enumerate(found.speeds):
        cells = []
        for level in range(1, found.levels + 1):
            runs = ", ".join(f"{nats:.3g}" for nats in found.at(speed, level))
            cells.append(f"{found.means(level)[place]:.4g} ({runs})")
        table.add_row(f"{speed:.3g}", *cells)
    return table


def horizon_table(found: Mapping[str, VideoEvaluation]) -> Table:
    """One row per metric and run; floors and ceiling below the runs."""
    first = next(iter(found.values()))
    table = _table(
        f"Open loop on {first.clips} held-out clips, {first.context} frames seen",
        "Means over frames and clips, ± 1.96 standard errors over clips."
        + "".join(f" {name}: {text}." for name, text in first.notes.items()),
        ["metric", "predictor", *(f"frame {label(steps)}" for steps in first.columns())],
    )
    for metric, rows in first.curves.items():
        runs = {name: (evaluation, GENERATION) for name, evaluation in found.items()}
        for name, (evaluation, row) in (runs | {x: (first, x) for x in rows if x != GENERATION}).items():
            cells = [_pm(evaluation.at(metric, row, steps)) for steps in first.columns()]
            table.add_row(metric, name, *cells)
    return table


def times_table(found: Sequence[TrainingTime], base: TrainingTime) -> Table:
    """CW-VAE's Table D.1, relative."""
    table = _table(
        f"Training time relative to {base.label}",
        "Per frame; medians over the lines of the log, quartiles of frames/s.",
        ["run", "relative", "ms a step", "frames/s", "quartiles"],
    )
    for time in found:
        speed = f"{time.frames_per_second:,.0f}", f"{time.low:,.0f} .. {time.high:,.0f}"
        table.add_row(time.label, f"{time.relative_to(base):.2f}", f"{time.milliseconds:.1f}", *speed)
    return table


def _table(title: str, caption: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE, pad_edge=False)
    for column, heading in enumerate(headings):
        table.add_column(heading, justify="right" if column else "left")
    return table


def _mean_entropy(curve: Curve, in_context: bool) -> str:
    pairs = zip(curve.steps, curve.nats.mean().tolist(), strict=True)
    chosen = [mean for step, mean in pairs if (step < 1) == in_context]
    return f"{sum(chosen) / len(chosen):.2f}" if chosen else "-"


def _kl(kl: LevelKL, level: int) -> str:
    nats = kl.nats(level)
    return f"{_pm(kl.bits(level))}\n({_pm(nats)}; {scaled(nats, 1 / kl.length).mean:.3g})"


def _pm(estimate: Estimate) -> str:
    return f"{estimate.mean:.4g} ± {estimate.half_width:.2g}"
