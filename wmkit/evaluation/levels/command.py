"""`wmkit levels kl|entropy|reset|samples|speeds|times RUN...`: what the levels of trained hierarchies hold and cost."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from wmkit.batch import Batch
from wmkit.config import RunConfig
from wmkit.data import find_world
from wmkit.evaluation.held_out import query_of, whole_episodes
from wmkit.evaluation.levels import table
from wmkit.evaluation.levels.entropy import level_entropy
from wmkit.evaluation.levels.kl import LevelKL, level_kl
from wmkit.evaluation.levels.reading import hierarchy_of
from wmkit.evaluation.levels.samples import level_samples
from wmkit.evaluation.levels.speeds import SpeedAdaptation, SpeedRun
from wmkit.evaluation.levels.times import TrainingTime, training_times
from wmkit.evaluation.run import device_for
from wmkit.loading import LAST, load, run_config
from wmkit.training.run_folder import write_json
from wmkit.world_model import WorldModel

FOLDER = "levels"


@dataclasses.dataclass(frozen=True)
class Analysis:
    """One word after `wmkit levels`."""

    help: str
    run: Callable[[argparse.Namespace, Path], Table]
    """Writes JSON and a figure into the folder and returns the table."""
    several: bool
    """Whether it takes more than one run."""
    arguments: Callable[[argparse.ArgumentParser], object]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run, ready to be looked at."""

    config: RunConfig
    model: WorldModel

    @classmethod
    def of(cls, run: Path, arguments: argparse.Namespace) -> Trained:
        """Loaded from its folder; raises `ValueError` for a run without levels."""
        config = run_config(run)
        model = load(run, arguments.checkpoint, device=device_for(config))
        hierarchy_of(model)
        return cls(config, model)

    @property
    def title(self) -> str:
        """What it is, for a figure."""
        strides = ", ".join(map(str, hierarchy_of(self.model).clock.strides))
        return f"{self.config.world}, levels that tick every {strides} frames"

    def clips(self, arguments: argparse.Namespace, count: int, length: int, keys: Sequence[str] = ()) -> Batch:
        """Held-out clips, `keys` as extras."""
        return whole_episodes(self.config, self.model, "test", count, length, arguments.held_out, keys)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    kinds = parser.add_subparsers(dest="analysis", required=True, metavar="ANALYSIS")
    for name, analysis in ANALYSES.items():
        own = kinds.add_parser(name, help=analysis.help, description=analysis.help)
        many = "+" if analysis.several else None
        own.add_argument("runs", type=Path, nargs=many, metavar="RUN", help="a run folder, or LABEL=FOLDER")
        own.add_argument("--out", type=Path, help=f"folder for JSON and figure (default: {FOLDER} in that of the run)")
        analysis.arguments(own)


def levels(arguments: argparse.Namespace) -> int:
    """Run one analysis; raises `ValueError` for what cannot be."""
    runs = arguments.runs if isinstance(arguments.runs, list) else [arguments.runs]
    if arguments.out is None and len(runs) > 1:
        raise ValueError("Several runs: say with --out FOLDER where their common figure goes")
    arguments.runs = labelled(runs)
    out = arguments.out or next(iter(arguments.runs.values())) / FOLDER
    for name in ("clips", "length", "context", "horizon", "draws"):
        if getattr(arguments, name, None) is not None and getattr(arguments, name) < 1:
            raise ValueError(f"--{name}: expected at least 1, got {getattr(arguments, name)}")
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    console.print(ANALYSES[arguments.analysis].run(arguments, out))
    console.print(f"{out / arguments.analysis}.json and .png", highlight=False)
    return 0


def labelled(words: Sequence[Path]) -> dict[str, Path]:
    """Run folders by label: `LABEL=FOLDER`, or the folder's own name; raises `ValueError` for a label twice."""
    pairs = [str(word).partition("=") if "=" in word.parts[0] else (word.name, "=", str(word)) for word in words]
    found = {label: Path(folder) for label, _, folder in pairs}
    if len(found) < len(words):
        raise ValueError("Two runs have one name: write LABEL=FOLDER to tell them apart")
    return found


def kl(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's Table 1."""
    from wmkit.evaluation.levels.figures import draw_kl

    found = {label: kl_of(run, arguments) for label, run in arguments.runs.items()}
    write_json(out / "kl.json", {label: kl.to_json() for label, kl in found.items()})
    draw_kl(found, out / "kl.png")
    return table.kl_table(found)


def kl_of(run: Path, arguments: argparse.Namespace) -> LevelKL:
    """On clips as long as those that the run was trained on, unless `--length` says otherwise."""
    trained = Trained.of(run, arguments)
    data = trained.config.data
    own = find_world(trained.config.world).episode_length if data.sampler == "episodes" else data.length
    length = arguments.length or own
    batch = trained.clips(arguments, arguments.clips, length)
    return level_kl(trained.model, batch, length=length, seed=arguments.seed)


def entropy(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's Figure 10."""
    from wmkit.evaluation.levels.figures import draw_entropy

    trained, (context, horizon) = _query(arguments)
    batch = trained.clips(arguments, arguments.clips, context + horizon)
    found = level_entropy(trained.model, batch, context=context, horizon=horizon, seed=arguments.seed)
    write_json(out / "entropy.json", found.to_json())
    draw_entropy(found, out / "entropy.png", trained.title)
    return table.entropy_table(found)


def samples(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's Figures 9 and 11."""
    from wmkit.evaluation.levels.figures import draw_samples

    trained, (context, horizon) = _query(arguments)
    batch = trained.clips(arguments, arguments.clip + 1, context + horizon).map(lambda x: x[arguments.clip :])
    options = {"context": context, "horizon": horizon, "draws": arguments.draws, "seed": arguments.seed}
    found = level_samples(trained.model, batch, **options)
    write_json(out / "samples.json", {"clip": arguments.clip, **options} | found.to_json())
    draw_samples(found, out / "samples.png", trained.title)
    return table.samples_table(found)


def speeds(arguments: argparse.Namespace, out: Path) -> Table:
    """TALD's Figure 8."""
    from wmkit.evaluation.levels.figures import draw_speeds

    runs = [SpeedRun(label, speed_of(run), kl_of(run, arguments)) for label, run in arguments.runs.items()]
    found = SpeedAdaptation(tuple(runs))
    write_json(out / "speeds.json", found.to_json())
    draw_speeds(found, out / "speeds.png")
    return table.speeds_table(found)


def speed_of(run: Path) -> float:
    """How fast the run's world moves, relative to its usual speed; raises `ValueError` for one that has no speed."""
    world: Any = find_world(run_config(run).world)
    try:
        return float(world.speed_factor)
    except AttributeError as error:
        raise ValueError(
            f"{run}: its world {world.name} has no speed; train on moving_mnist_slow, moving_mnist, moving_mnist_fast"
        ) from error


def times(arguments: argparse.Namespace, out: Path) -> Table:
    """CW-VAE's Table D.1."""
    from wmkit.evaluation.levels.figures import draw_times

    found = training_times(arguments.runs)
    base = _base(found, arguments.base)
    write_json(out / "times.json", {"runs": [time.to_json(base) for time in found]})
    draw_times(found, base, out / "times.png")
    return table.times_table(found, base)


def _base(found: Sequence[TrainingTime], label: str | None) -> TrainingTime:
    """What the others are compared with: the first run unless `--base` names another."""
    by_label: Mapping[str, TrainingTime] = {time.label: time for time in found}
    if label is not None and label not in by_label:
        raise ValueError(f"--base: expected one of {', '.join(by_label)}, got {label}")
    return found[0] if label is None else by_label[label]


def _query(arguments: argparse.Namespace) -> tuple[Trained, tuple[int, int]]:
    """The run, and context and horizon as asked for or as it says."""
    trained = Trained.of(next(iter(arguments.runs.values())), arguments)
    return trained, query_of(trained.config, arguments.context, arguments.horizon)


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="seed of the latents (default: 0)")
    parser.add_argument("--checkpoint", default=LAST, help="best, last, or a checkpoint's folder (default: last)")
    parser.add_argument("--held-out", help="a world or an archive of split test (default: the run's world)")


def _clips(parser: argparse.ArgumentParser) -> None:
    _reading(parser)
    parser.add_argument("--clips", type=int, default=100, help="held-out clips (default: 100, as published)")


def _length(parser: argparse.ArgumentParser) -> None:
    _clips(parser)
    parser.add_argument("--length", type=int, help="frames of a clip (default: as in training)")


def _context(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--context", type=int, help="observed frames (default: as the run or its world says)")
    parser.add_argument("--horizon", type=int, help="imagined frames (default: as the run says)")


def _entropy(parser: argparse.ArgumentParser) -> None:
    _clips(parser)
    _context(parser)


def _samples(parser: argparse.ArgumentParser) -> None:
    _reading(parser)
    _context(parser)
    parser.add_argument("--clip", type=int, default=0, help="number of the held-out clip (default: 0)")
    parser.add_argument("--draws", type=int, default=3, help="samples of each condition (default: 3)")


def _times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", help="label of the run that the others are compared with (default: the first)")


ANALYSES = {
    "kl": Analysis("KL per level in bits and nats: what each level takes from the frames.", kl, True, _length),
    "entropy": Analysis("Entropy per level over time, in the context and in open loop.", entropy, False, _entropy),
    "samples": Analysis("Decoded samples with levels blind: what a level knows.", samples, False, _samples),
    "speeds": Analysis("KL per level of runs at different speeds of the world.", speeds, True, _length),
    "times": Analysis("Training time of runs relative to the first.", times, True, _times),
}
