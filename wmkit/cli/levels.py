"""`wmkit levels kl|entropy|reset|samples|speeds|horizon|times RUN...`: what the levels of a hierarchy hold and cost."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from wmkit.loading import LAST, run_config

HELP = "What the levels of a clockwork hierarchy hold and cost: kl, entropy, reset, samples, speeds, horizon, times."
FOLDER = "levels"
LEAST = {"clips": 2, "length": 3, "context": 2, "horizon": 1, "draws": 2, "steps": 1, "clip": 0}
"""The smallest value of every number that can be asked for."""


class Analysis(NamedTuple):
    """One word after `wmkit levels`: the function of that name in `wmkit.evaluation.levels.analyses`."""

    help: str
    several: bool
    """Whether it takes more than one run."""
    arguments: Sequence[Callable[[argparse.ArgumentParser], object]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    kinds = parser.add_subparsers(dest="analysis", required=True, metavar="ANALYSIS")
    for name, analysis in ANALYSES.items():
        own = kinds.add_parser(name, help=analysis.help, description=analysis.help)
        own.add_argument(
            "runs", nargs="+" if analysis.several else 1, metavar="RUN", help="a run folder, or LABEL=FOLDER"
        )
        own.add_argument("--out", type=Path, help=f"folder for JSON and figure (default, of one run: its {FOLDER}/)")
        for add in analysis.arguments:
            add(own)


def run(arguments: argparse.Namespace) -> int:
    """Run one analysis and print its table; raises `ValueError` for what cannot be."""
    from rich.console import Console

    from wmkit.evaluation.levels import analyses
    from wmkit.training.overrides import chosen_source

    arguments.runs = labelled(arguments.runs)
    _check(arguments)
    configs = [run_config(run) for run in arguments.runs.values()]  # refuses what is no run, before a folder is made
    if "episodes_from" in arguments:
        arguments.episodes_from = chosen_source(arguments.episodes_from, configs[0].world)
    out: Path = arguments.out or next(iter(arguments.runs.values())) / FOLDER
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    own = {"verb", "analysis", "runs", "out"}
    options = {name: value for name, value in vars(arguments).items() if name not in own}
    analyse = getattr(analyses, arguments.analysis)
    console.print(analyse(arguments.runs, out, **options).rich())
    console.print(f"{out / arguments.analysis}.json and .png", highlight=False, soft_wrap=True)
    return 0


def labelled(words: Sequence[str]) -> dict[str, Path]:
    """Run folders by label: `LABEL=FOLDER`, or the folder's own name; raises `ValueError` for a label twice."""
    pairs = [word.split("=", 1) if "=" in word else [Path(word).name, word] for word in words]
    found = {label: Path(folder) for label, folder in pairs}
    if len(found) < len(words):
        raise ValueError("Two runs have one name: write LABEL=FOLDER to tell them apart")
    return found


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out is None and len(arguments.runs) > 1:
        raise ValueError("Several runs: say with --out FOLDER where their common figure goes")
    for name, least in LEAST.items():
        value = getattr(arguments, name, None)
        if value is not None and value < least:
            raise ValueError(f"--{name}: expected at least {least}, got {value}")


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="seed of the latents (default: 0)")
    parser.add_argument("--checkpoint", default=LAST, help="best, last, or a checkpoint's folder (default: last)")
    parser.add_argument(
        "--episodes-from",
        metavar="SOURCE",
        help="an archive of split test, a world, or in quotes a world with settings, as in 'ray_maze world.size=11' "
        "(default: the run's world)",
    )


def _clips(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=int, default=100, help="held-out clips (default: 100, as published)")


def _length(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--length", type=int, help="frames of a clip (default: as in training)")


def _context(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--context", type=int, help="observed frames (default: as the run or its world says)")
    parser.add_argument("--horizon", type=int, help="imagined frames (default: as the run says)")


def _steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=10, help="imagined steps that means are over (default: 10)")


def _clip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clip", type=int, default=0, help="number of the held-out clip (default: 0)")
    parser.add_argument("--draws", type=int, default=2, help="samples of each condition (default: 2)")


def _times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", help="label of the run that the others are compared with (default: the first)")


ANALYSES = {
    "kl": Analysis(
        "KL per level in bits and nats: what each level takes from the frames.",
        True,
        (_reading, _clips, _length),
    ),
    "entropy": Analysis(
        "Entropy per level over time, in the context and in open loop.",
        False,
        (_reading, _clips, _context),
    ),
    "reset": Analysis(
        "Identity and position of digits, read and imagined, when some levels did not see the context.",
        False,
        (_reading, _clips, _context, _steps),
    ),
    "samples": Analysis(
        "Decoded samples of one clip when some levels did not see the context.",
        False,
        (_reading, _context, _clip),
    ),
    "speeds": Analysis("KL per level of runs at different speeds of the world.", True, (_reading, _clips, _length)),
    "horizon": Analysis(
        "Open-loop frames of runs against the horizon, beside floors: SSIM, PSNR, digits.",
        True,
        (_reading, _clips, _context),
    ),
    "times": Analysis("Training time of runs relative to the first.", True, (_times,)),
}
