"""`wmkit evaluate RUN`: measure a run on held-out episodes, print the tables, fill its folder."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Measures a run on held-out episodes: tables, verdicts, pictures, records.parquet."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's folder (default: best)")
    parser.add_argument(
        "--measures", help="what to measure, separated by commas, or all (default: what applies and is quick)"
    )
    parser.add_argument(
        "--plugins", default="", help="modules to import first, separated by commas, for measures of your own"
    )
    parser.add_argument("--episodes", type=int, help="how many held-out episodes (default: as the run says)")
    parser.add_argument(
        "--episodes-from",
        metavar="SOURCE",
        help="an archive of split test, a world, or in quotes a world with settings, as in 'ray_maze world.size=11' "
        "(default: the run's own test episodes)",
    )
    parser.add_argument("--context", type=int, help="observed steps (default: as the run or its episodes say)")
    parser.add_argument("--horizon", type=int, help="imagined steps (default: as the run says)")
    parser.add_argument(
        "--samples", type=int, default=1, help="imagined futures of each episode, for best_of_n (default: 1)"
    )
    parser.add_argument("--seed", type=int, help="of the latents (default: the run's)")
    parser.add_argument("--out", help="folder for files and pictures (default: the run folder)")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables and fill the folder; raises `ValueError` for what cannot be."""
    from wmkit.config import import_plugins
    from wmkit.evaluation import evaluate_run
    from wmkit.loading import run_config
    from wmkit.training.overrides import chosen_source
    from wmkit.training.short import EPISODES, SENTENCE, STEPS, is_short

    wanted = vars(arguments)
    for name, least in (("context", 2), ("horizon", 1), ("episodes", 2), ("samples", 1)):
        if wanted[name] is not None and wanted[name] < least:
            raise ValueError(f"--{name}: expected at least {least}, got {wanted[name]}")
    if is_short():
        print(SENTENCE, flush=True)
        for name, most in (("episodes", EPISODES), ("horizon", STEPS), ("samples", 2)):
            wanted[name] = min(wanted[name] or most, most)
    names = ("checkpoint", "episodes", "episodes_from", "context", "horizon", "samples", "seed", "out")
    measures = None if arguments.measures is None else _words(arguments.measures)
    if measures == []:
        raise ValueError("--measures: expected names separated by commas, or all, got none")
    if arguments.out == "":
        raise ValueError("--out: expected a folder, got nothing")
    import_plugins(_words(arguments.plugins))
    arguments.episodes_from = chosen_source(arguments.episodes_from, run_config(arguments.run).world)
    evaluate_run(arguments.run, measures=measures, **{name: wanted[name] for name in names})
    return 0


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]
