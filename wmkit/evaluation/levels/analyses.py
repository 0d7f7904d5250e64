"""The analyses, from run folders to JSON, a figure and a table: what `wmkit levels` does, and recipes.

Each takes runs by label and a folder, writes `NAME.json` and `NAME.png` into it and returns the table. What they have
in common: `clips` held-out clips (100, as published); `seed` of the latents; `checkpoint`: best, last, or a
checkpoint's folder; `episodes_from`: a world or an archive of split `test`, None: the run's world; `context` and
`horizon`: None takes what the run or its world says. They raise `ValueError` for runs without levels and clips that are
too few or too short.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.digits.truth import Digits, judge
from wmkit.evaluation.evaluate import measure_query
from wmkit.evaluation.held_out import context_and_horizon
from wmkit.evaluation.intervals import Estimate
from wmkit.evaluation.levels.entropy import OPEN_LOOP, POSTERIOR, PRIOR, level_entropy
from wmkit.evaluation.levels.kl import LevelKL, level_kl, scaled
from wmkit.evaluation.levels.reading import name_of
from wmkit.evaluation.levels.reset import IMAGINED, IN_CONTEXT, level_reset
from wmkit.evaluation.levels.samples import PARTS, level_samples
from wmkit.evaluation.levels.speeds import SpeedAdaptation, SpeedRun
from wmkit.evaluation.levels.times import training_times
from wmkit.evaluation.levels.trained import LoadedRun, clip_length
from wmkit.evaluation.measures.base import Measure, Setting
from wmkit.evaluation.measures.digits import DigitAccuracy
from wmkit.evaluation.measures.similarity import Similarity
from wmkit.evaluation.predictors import IMAGINED as IMAGINED_FRAMES
from wmkit.evaluation.predictors import predictor
from wmkit.evaluation.tables import Table
from wmkit.files import write_json
from wmkit.loading import LAST, run_config

Runs = Mapping[str, Path]


def kl(
    runs: Runs,
    out: Path,
    *,
    clips: int = 100,
    length: int | None = None,
    seed: int = 0,
    checkpoint: str = LAST,
    episodes_from: str | None = None,
) -> Table:
    """KL per level in bits and nats, TALD's Table 1. length: frames of a clip; None: as in training."""
    from wmkit.evaluation.plots.levels import draw_kl

    found = _kl(runs, clips, length, seed, checkpoint, episodes_from)
    write_json(out / "kl.json", {label: one.to_json() for label, one in found.items()})
    draw_kl(found, out / "kl.png")
    first, most = next(iter(found.values())), max(one.levels for one in found.values())
    rows = []
    for label, one in found.items():
        cells = ["-"] * most
        for level in range(1, one.levels + 1):
            nats, bits = one.nats(level), one.bits(level)
            cells[level - 1] = f"{_pm(bits)}\n({_pm(nats)}; {scaled(nats, 1 / one.length).mean:.3g})"
        rows.append([label, *cells])
    return Table(
        f"KL per level, {first.length} frames, {len(first.per_clip)} held-out clips",
        ["run", *(f"level {level}" for level in range(1, most + 1))],
        rows,
        "Bits per clip, in brackets nats per clip, nats per frame. ± 1.96 standard errors over clips.",
    )


def entropy(
    runs: Runs,
    out: Path,
    *,
    clips: int = 100,
    context: int | None = None,
    horizon: int | None = None,
    seed: int = 0,
    checkpoint: str = LAST,
    episodes_from: str | None = None,
) -> Table:
    """Entropy per level over time, in the context and in open loop, of one run: TALD's Figure 10."""
    from wmkit.evaluation.plots.levels import draw_entropy

    run, context, horizon = _query(runs, checkpoint, episodes_from, context, horizon)
    batch = run.clips(clips, context + horizon)
    found = level_entropy(run.model, batch, context=context, horizon=horizon, seed=seed)
    write_json(out / "entropy.json", found.to_json())
    draw_entropy(found, out / "entropy.png", run.title)
    parts = [(name, part) for name in (PRIOR, POSTERIOR) for part in PARTS] + [(OPEN_LOOP, PARTS[1])]
    return Table(
        f"Entropy per level in nats, context {context} | query {horizon}",
        ["level", *(f"{name}, {part}" for name, part in parts)],
        [
            [str(level), *(curves[name].mean_text(in_context=part == PARTS[0]) for name, part in parts)]
            for level, curves in enumerate(found.levels, start=1)
        ],
        "Mean over ticks. In the query, prior and posterior see the frames, open loop does not.",
    )


def reset(
    runs: Runs,
    out: Path,
    *,
    clips: int = 100,
    context: int | None = None,
    horizon: int | None = None,
    steps: int = 10,
    seed: int = 0,
    checkpoint: str = LAST,
    episodes_from: str | None = None,
) -> Table:
    """Digits by which levels saw the context, of one run: TALD's section 4.6, judged by a probe that reads frames.

    steps: imagined frames that means are over.
    """
    from wmkit.evaluation.plots.levels import draw_reset

    run, context, horizon = _query(runs, checkpoint, episodes_from, context, horizon)
    batch, probe = run.digit_clips(clips, context + horizon), run.probe(seed)

    def judged(frames: Tensor, query: Batch) -> Mapping[str, Tensor]:
        return judge(probe.read(frames), Digits.of(query.to("cpu")))

    found = level_reset(run.model, batch, judged, context=context, horizon=horizon, seed=seed)
    write_json(out / "reset.json", found.to_json(steps))
    draw_reset(found, out / "reset.png", run.title, steps)
    return Table(
        f"Digits by which levels saw the context: its last {found.seen} frames, "
        f"then the first {min(steps, found.horizon)} imagined ones",
        ["context", *(f"{name.replace('_', ' ')}, {part}" for name in found.names for part in (IN_CONTEXT, IMAGINED))],
        [
            [
                name_of(prior_levels, found.levels),
                *(_pm(value) for name in found.names for value in found.over(prior_levels, name, steps).values()),
            ]
            for prior_levels in found.measures
        ],
        "± 1.96 standard errors over clips. None sees: the floor.",
    )


def samples(
    runs: Runs,
    out: Path,
    *,
    clip: int = 0,
    draws: int = 2,
    context: int | None = None,
    horizon: int | None = None,
    seed: int = 0,
    checkpoint: str = LAST,
    episodes_from: str | None = None,
) -> Table:
    """Decoded samples of one clip by which levels saw its context, of one run: TALD's Figures 9 and 11."""
    from wmkit.evaluation.plots.levels import draw_samples

    run, context, horizon = _query(runs, checkpoint, episodes_from, context, horizon)
    batch = run.clips(clip + 1, context + horizon).map(lambda x: x[clip:])
    options = {"context": context, "horizon": horizon, "draws": draws, "seed": seed}
    found = level_samples(run.model, batch, **options)
    write_json(out / "samples.json", {"clip": clip, **options} | found.to_json())
    draw_samples(found, out / "samples.png", run.title)
    return Table(
        "Samples of one clip by which levels saw its context",
        ["context", *(f"{what}, {part}" for what in ("error", "spread") for part in PARTS)],
        [[name, *(f"{value:.2f}" for value in (*found.error(name), *found.spread(name)))] for name in found.frames],
        "Per frame, summed over pixels. Error: against the truth; spread: variance from draw to draw.",
    )


def speeds(
    runs: Runs,
    out: Path,
    *,
    clips: int = 100,
    length: int | None = None,
    seed: int = 0,
    checkpoint: str = LAST,
    episodes_from: str | None = None,
) -> Table:
    """KL per level of runs at different speeds of the world: TALD's Figure 8. length: as in `kl`."""
    from wmkit.evaluation.plots.levels import draw_speeds

    by_run = _kl(runs, clips, length, seed, checkpoint, episodes_from)
    found = SpeedAdaptation(tuple(SpeedRun(label, _speed_of(runs[label]), one) for label, one in by_run.items()))
    write_json(out / "speeds.json", found.to_json())
    draw_speeds(found, out / "speeds.png")
    rows = []
    for place, speed in enumerate(found.speeds):
        cells = []
        for level in range(1, found.levels + 1):
            each = ", ".join(f"{nats:.3g}" for nats in found.at(speed, level))
            cells.append(f"{found.means(level)[place]:.4g} ({each})")
        rows.append([f"{speed:.3g}", *cells])
    return Table(
        f"KL per level by speed, nats per clip of {found.runs[0].kl.length} frames",
        ["speed", *(f"level {level}" for level in range(1, found.levels + 1))],
        rows,
        "\n".join(["Mean over separately trained runs, in brackets each of them.", *map(str, found.verdicts())]),
    )


def horizon(
    runs: Runs,
    out: Path,
    *,
    clips: int = 100,
    context: int | None = None,
    horizon: int | None = None,
    seed: int = 0,
    checkpoint: str = LAST,
    episodes_from: str | None = None,
) -> Table:
    """Imagined frames of several runs of one world against the horizon: TALD's Figure 1, and the same for digits.

    Every run sees the same clips and is read by the same probe.
    """
    from wmkit.evaluation.plots.levels import draw_horizon

    loaded = {label: LoadedRun.of(run, checkpoint, episodes_from) for label, run in runs.items()}
    worlds = {run.world for run in loaded.values()}
    if len(worlds) > 1:
        raise ValueError(f"Curves stand beside each other for runs of one world only, got {', '.join(sorted(worlds))}")
    first = next(iter(loaded.values()))
    context, horizon = context_and_horizon(first.config, context, horizon)
    length = context + horizon
    batch = (first.digit_clips if first.has_digits else first.clips)(clips, length)
    probe = first.probe(seed) if first.has_digits else None
    frames = first.training_frames(length)
    found = {}
    for label, run in loaded.items():
        setting = Setting(run.model, context, horizon, seed, first.first_clip)
        measures: list[Measure] = [Similarity(), *([DigitAccuracy(probe)] if probe else [])]
        found[label] = measure_query(setting, measures, batch, training_frames=frames)
    write_json(out / "horizon.json", {label: one.summary() for label, one in found.items()})
    draw_horizon(found, out / "horizon.png", first.world)
    one = next(iter(found.values()))
    columns = one.columns(one.measures[0])
    rows = []
    for measure in one.measures:
        lines = {label: (each, IMAGINED_FRAMES) for label, each in found.items()}
        lines |= {predictor(name).label: (one, name) for name in one.predictors(measure) if name != IMAGINED_FRAMES}
        for label, (each, name) in lines.items():
            rows.append([measure, label, *(_pm(each.estimate(measure, name, steps)) for steps in columns.values())])
    return Table(
        f"Open loop on {one.episodes} held-out clips, {context} frames seen",
        ["measure", "predictor", *(f"frame {heading}" for heading in columns)],
        rows,
        f"Means over frames and clips, ± 1.96 standard errors over clips. Mean image of {one.about['mean_image_of']}. "
        + " ".join(dict.fromkeys(one.metrics[measure].caption for measure in one.measures)).strip(),
    )


def times(runs: Runs, out: Path, *, base: str | None = None) -> Table:
    """Training time of runs relative to one of them: CW-VAE's Table D.1. base: its label; None: the first."""
    from wmkit.evaluation.plots.levels import draw_times

    found = training_times(runs)
    by_label = {time.label: time for time in found}
    if base is not None and base not in by_label:
        raise ValueError(f"base: expected one of {', '.join(by_label)}, got {base}")
    first = found[0] if base is None else by_label[base]
    write_json(out / "times.json", {"runs": [time.to_json(first) for time in found]})
    draw_times(found, first, out / "times.png")
    return Table(
        f"Training time relative to {first.label}",
        ["run", "relative", "ms a step", "frames/s", "quartiles"],
        [
            [
                time.label,
                f"{time.relative_to(first):.2f}",
                f"{time.milliseconds:.1f}",
                f"{time.frames_per_second:,.0f}",
                f"{time.low:,.0f} .. {time.high:,.0f}",
            ]
            for time in found
        ],
        "Per frame; medians over the lines of the log, quartiles of frames/s.",
    )


def _kl(
    runs: Runs, clips: int, length: int | None, seed: int, checkpoint: str, episodes_from: str | None
) -> dict[str, LevelKL]:
    """Sums over a clip stand beside each other only where clips are equally long."""
    lengths = {label: length or clip_length(run_config(run)) for label, run in runs.items()}
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{label}: {count}" for label, count in lengths.items())
        raise ValueError(f"Runs were trained on clips of different lengths ({each} frames): say one with --length")
    found = {}
    for label, folder in runs.items():
        run = LoadedRun.of(folder, checkpoint, episodes_from)
        batch = run.clips(clips, lengths[label])
        found[label] = level_kl(run.model, batch, length=lengths[label], seed=seed)
    return found


def _query(
    runs: Runs, checkpoint: str, episodes_from: str | None, context: int | None, horizon: int | None
) -> tuple[LoadedRun, int, int]:
    """The one run; context and horizon as asked for or as it says."""
    if len(runs) != 1:
        raise ValueError(f"This is an analysis of one run, got {', '.join(runs)}")
    run = LoadedRun.of(next(iter(runs.values())), checkpoint, episodes_from)
    return run, *context_and_horizon(run.config, context, horizon)


def _speed_of(run: Path) -> float:
    """How fast the run's world moves, relative to its usual speed; raises `ValueError` for one that has no speed."""
    world = run_config(run).world
    speed = getattr(world, "speed", None)
    if speed is None:
        raise ValueError(
            f"{run}: its world {world.name} has no speed; train on moving_mnist_slow, moving_mnist, moving_mnist_fast"
        )
    return float(speed)


def _pm(estimate: Estimate) -> str:
    return f"{estimate.mean:.4g} ± {estimate.half_width:.2g}"
