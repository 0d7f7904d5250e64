"""The analyses of `wmkit levels`: from run folders to JSON, a figure and a table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.digits.truth import Digits, judge
from wmkit.evaluation.held_out import query_of
from wmkit.evaluation.levels import table
from wmkit.evaluation.levels.entropy import level_entropy
from wmkit.evaluation.levels.kl import LevelKL, level_kl
from wmkit.evaluation.levels.reset import level_reset
from wmkit.evaluation.levels.samples import level_samples
from wmkit.evaluation.levels.speeds import SpeedAdaptation, SpeedRun
from wmkit.evaluation.levels.times import TrainingTime, training_times
from wmkit.evaluation.levels.trained import Trained, clip_length
from wmkit.evaluation.video.open_loop import evaluate_video
from wmkit.evaluation.video.run import notes_on
from wmkit.files import write_json
from wmkit.loading import run_config


def kl(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's Table 1."""
    from wmkit.evaluation.levels.figures import draw_kl

    _check_lengths(arguments)
    found = {label: _kl_of(run, arguments) for label, run in arguments.runs.items()}
    write_json(out / "kl.json", {label: kl.to_json() for label, kl in found.items()})
    draw_kl(found, out / "kl.png")
    return table.kl_table(found)


def entropy(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's Figure 10."""
    from wmkit.evaluation.levels.figures import draw_entropy

    trained, context, horizon = _query(arguments)
    batch = trained.clips(arguments.clips, context + horizon)
    found = level_entropy(trained.model, batch, context=context, horizon=horizon, seed=arguments.seed)
    write_json(out / "entropy.json", found.to_json())
    draw_entropy(found, out / "entropy.png", trained.title)
    return table.entropy_table(found)


def reset(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's section 4.6, judged by a probe that reads digits from frames."""
    from wmkit.evaluation.levels.figures import draw_reset

    trained, context, horizon = _query(arguments)
    batch = trained.digit_clips(arguments.clips, context + horizon)
    probe = trained.probe(arguments.seed)

    def judged(frames: Tensor, query: Batch) -> Mapping[str, Tensor]:
        return judge(probe.read(frames), Digits.of(query.to("cpu")))

    found = level_reset(trained.model, batch, judged, context=context, horizon=horizon, seed=arguments.seed)
    write_json(out / "reset.json", found.to_json(arguments.steps))
    draw_reset(found, out / "reset.png", trained.title, arguments.steps)
    return table.reset_table(found, arguments.steps)


def samples(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's Figures 9 and 11."""
    from wmkit.evaluation.levels.figures import draw_samples

    trained, context, horizon = _query(arguments)
    batch = trained.clips(arguments.clip + 1, context + horizon).map(lambda x: x[arguments.clip :])
    options = {"context": context, "horizon": horizon, "draws": arguments.draws, "seed": arguments.seed}
    found = level_samples(trained.model, batch, **options)
    write_json(out / "samples.json", {"clip": arguments.clip, **options} | found.to_json())
    draw_samples(found, out / "samples.png", trained.title)
    return table.samples_table(found)


def speeds(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's Figure 8."""
    from wmkit.evaluation.levels.figures import draw_speeds

    _check_lengths(arguments)
    runs = [SpeedRun(label, _speed_of(run), _kl_of(run, arguments)) for label, run in arguments.runs.items()]
    found = SpeedAdaptation(tuple(runs))
    write_json(out / "speeds.json", found.to_json())
    draw_speeds(found, out / "speeds.png")
    return table.speeds_table(found)


def horizon(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's Figure 1, and the same for digits: every run on the same clips, read by the same probe."""
    from wmkit.evaluation.levels.figures import draw_horizon

    runs = {label: Trained.of(run, arguments.checkpoint, arguments.held_out) for label, run in arguments.runs.items()}
    worlds = {trained.config.world.name for trained in runs.values()}
    if len(worlds) > 1:
        raise ValueError(f"Curves stand beside each other for runs of one world only, got {', '.join(sorted(worlds))}")
    first = next(iter(runs.values()))
    context, steps = query_of(first.config, arguments.context, arguments.horizon)
    batch = (first.digit_clips if first.has_digits else first.clips)(arguments.clips, context + steps)
    options = {"context": context, "horizon": steps, "seed": arguments.seed} | _shared(
        first, context + steps, arguments
    )
    found = {label: evaluate_video(trained.model, batch, **options) for label, trained in runs.items()}
    write_json(out / "horizon.json", {label: evaluation.to_json() for label, evaluation in found.items()})
    draw_horizon(found, out / "horizon.png", first.config.world.name)
    return table.horizon_table(found)


def times(arguments: argparse.Namespace, out: Path) -> Table:
    """CW-VAE's Table D.1."""
    from wmkit.evaluation.levels.figures import draw_times

    found = training_times(arguments.runs)
    base = _base(found, arguments.base)
    write_json(out / "times.json", {"runs": [time.to_json(base) for time in found]})
    draw_times(found, base, out / "times.png")
    return table.times_table(found, base)


def _kl_of(run: Path, arguments: argparse.Namespace) -> LevelKL:
    """On clips as long as those that the run was trained on, unless `--length` says otherwise."""
    trained = Trained.of(run, arguments.checkpoint, arguments.held_out)
    length = arguments.length or trained.length
    return level_kl(trained.model, trained.clips(arguments.clips, length), length=length, seed=arguments.seed)


def _shared(first: Trained, length: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """What every run of a figure is measured by: one mean image, one probe where there are digits, and their notes."""
    frames = first.training_frames(length)
    return {
        "training_frames": frames,
        "probe": first.probe(arguments.seed) if first.has_digits else None,
        "notes": notes_on(first.first_clip, frames is not None),
    }


def _check_lengths(arguments: argparse.Namespace) -> None:
    """Sums over a clip stand beside each other only where clips are equally long."""
    found = {label: arguments.length or clip_length(run_config(run)) for label, run in arguments.runs.items()}
    if len(set(found.values())) > 1:
        lengths = ", ".join(f"{label}: {length}" for label, length in found.items())
        raise ValueError(f"Runs were trained on clips of different lengths ({lengths} frames): say one with --length")


def _speed_of(run: Path) -> float:
    """How fast the run's world moves, relative to its usual speed; raises `ValueError` for one that has no speed."""
    world = run_config(run).world
    speed = getattr(world, "speed", None)
    if speed is None:
        raise ValueError(
            f"{run}: its world {world.name} has no speed; train on moving_mnist_slow, moving_mnist, moving_mnist_fast"
        )
    return float(speed)


def _base(found: Sequence[TrainingTime], label: str | None) -> TrainingTime:
    """What the others are compared with: the first run unless `--base` names another."""
    by_label = {time.label: time for time in found}
    if label is not None and label not in by_label:
        raise ValueError(f"--base: expected one of {', '.join(by_label)}, got {label}")
    return found[0] if label is None else by_label[label]


def _query(arguments: argparse.Namespace) -> tuple[Trained, int, int]:
    """The run; context and horizon as asked for or as it says."""
    run = next(iter(arguments.runs.values()))
    trained = Trained.of(run, arguments.checkpoint, arguments.held_out)
    return trained, *query_of(trained.config, arguments.context, arguments.horizon)
