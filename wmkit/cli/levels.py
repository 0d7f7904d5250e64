"""`wmkit levels ANALYSIS RUN...`: what the levels of a hierarchy hold and cost, by any registered analysis."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wmkit.files import user_path

HELP = "What the levels of a hierarchy hold and cost, by one of several analyses."
FOLDER = "levels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A word for each analysis, and its fields as options."""
    from wmkit.evaluation.levels.base import all_analyses

    kinds = parser.add_subparsers(dest="analysis", required=True, metavar="ANALYSIS")
    for name, analysis in all_analyses().items():
        own = kinds.add_parser(name, help=analysis.help, description=analysis.help)
        own.add_argument(
            "runs", nargs="+" if analysis.several else 1, metavar="RUN", help="a run folder, or LABEL=FOLDER"
        )
        own.add_argument("--out", type=Path, help=f"folder for JSON and figure (default, of one run: its {FOLDER}/)")
        for field in dataclasses.fields(analysis):
            about = {key: field.metadata[key] for key in ("help", "type", "metavar")}
            own.add_argument(_flag(field), default=field.default, **about)


def run(arguments: argparse.Namespace) -> int:
    """Run one analysis and print its table; raises `ValueError` for what cannot be."""
    from rich.console import Console

    from wmkit.evaluation.levels.base import all_analyses
    from wmkit.loading import run_config
    from wmkit.training.overrides import chosen_source

    runs = labelled(arguments.runs)
    if arguments.out is None and len(runs) > 1:
        raise ValueError("Several runs: say with --out FOLDER where their common figure goes")
    analysis = all_analyses()[arguments.analysis]
    options = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(analysis)}
    for field in dataclasses.fields(analysis):
        least, value = field.metadata["least"], options[field.name]
        if least is not None and value is not None and value < least:
            raise ValueError(f"{_flag(field)}: expected at least {least}, got {value}")
    configs = [run_config(folder) for folder in runs.values()]  # refuses what is no run, before a folder is made
    if "episodes_from" in options:
        options["episodes_from"] = chosen_source(options["episodes_from"], configs[0].world)
    out: Path = arguments.out or next(iter(runs.values())) / FOLDER
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print(analysis(**options).write(runs, out).rich())
    console.print(f"{out / arguments.analysis}.json and .png", highlight=False, markup=False, soft_wrap=True)
    return 0


def labelled(words: Sequence[str]) -> dict[str, Path]:
    """Run folders by label: `LABEL=FOLDER`, or the folder's own name; raises `ValueError` for a label twice.

    A folder that is there is one, also where `=` is in its name.
    """
    named = [("", "", word) if Path(user_path(word)).is_dir() else word.rpartition("=") for word in words]
    paths = [Path(user_path(folder)) for _, _, folder in named]
    found = {label or path.resolve().name: path for (label, _, _), path in zip(named, paths, strict=True)}
    if len(found) < len(words):
        raise ValueError("Two runs have one name: write LABEL=FOLDER to tell them apart")
    return found


def _flag(field: dataclasses.Field[Any]) -> str:
    return f"--{field.name.replace('_', '-')}"
