"""`wmkit report FOLDER...`: the report of a comparison again, or a table of some runs."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from wmkit.config import differences
from wmkit.loading import run_config

if TYPE_CHECKING:
    from wmkit.evaluation import Table

HELP = "The tables and the page of a comparison, from its folder; or a table of run folders."
LABELS = ("preset", "resume", "run_dir", "plugins")
"""Keys of a config that change nothing in a run."""
HELD = "claims"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Folders."""
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="out= of one comparison, or run folders, or folders of runs such as runs",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print tables, of a comparison write the report and say where it is; trains nothing.

    Raises `ValueError` for a folder that is neither a comparison's nor a run's, nor has runs in it.
    """
    console, folders = Console(), arguments.folders
    if len(folders) > 1 or not (folders[0] / "plan.json").is_file():
        console.print(runs_table([run for folder in folders for run in _runs_of(folder)]).rich())
        return 0
    from wmkit.comparison.report import tables, write_report
    from wmkit.comparison.results import read_results

    report = write_report(folders[0])
    results = read_results(folders[0])
    for world in results.plan.worlds:
        console.print(*(table.rich() for table in tables(results, world.name, console.width)))
    print(report)
    return 0


def _runs_of(folder: Path) -> list[Path]:
    """The folder, where it is a run's, or the runs in it."""
    found = [folder] if (folder / "config.json").is_file() else [path.parent for path in folder.glob("*/config.json")]
    if not found:
        what = "is a comparison: it is reported alone" if (folder / "plan.json").is_file() else "holds none"
        raise ValueError(
            f"{folder} {what if folder.is_dir() else 'does not exist'}; expected run folders (with a config.json), a "
            "folder of them such as runs, or the out= folder of one comparison"
        )
    return sorted(found)


def runs_table(runs: Sequence[Path]) -> Table:
    """A row per run: in what its config differs from the others', its steps, its lowest validation loss, and of its
    evaluation the headline figure (the first one where there is none) and how many claims hold.
    """
    from wmkit.evaluation import Measurements, Table
    from wmkit.evaluation.predictors import IMAGINED
    from wmkit.training.log import read_lines

    configs = [run_config(run).to_dict() for run in runs]
    changed = {key for config in configs[1:] for key in differences(configs[0], config)} - set(LABELS)
    # Numbers of one backbone or world say nothing beside those of another.
    named = [part for part in ("backbone", "world") if f"{part}.name" in changed]
    keys = sorted(key for key in changed if key.partition(".")[0] not in named or key.endswith(".name"))
    figures: list[dict[str, str]] = []
    rows: list[list[str]] = []
    for folder, config in zip(runs, configs, strict=True):
        lines = list(read_lines(folder / "metrics.jsonl"))
        losses = [line["values"]["loss"] for line in lines if line["split"] == "valid"]
        known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
        step = max((line["step"] for line in lines), default=0)
        ended = "" if (folder / "finished.json").is_file() else ", unfinished"
        different = "\n".join(f"{key.removesuffix('.name')}={_value(config, key)}" for key in keys)
        rows.append([folder.name, different, f"{step:,}{ended}", f"{min(known):.4g}" if known else "-"])
        figures.append({})
        try:
            measured = Measurements.load(folder)
        except ValueError:  # not evaluated yet
            continue
        chosen = [name for name in measured.measures if measured.metrics[name].headline] or measured.measures[:1]
        for name in chosen:
            metric = measured.metrics[name]
            if IMAGINED in measured.predictors(name):
                figures[-1][f"{metric.title}, imagined"] = metric.text(measured.estimate(name, IMAGINED))
        held = sum(verdict.holds for verdict in measured.verdicts)
        figures[-1][HELD] = f"{held} of {len(measured.verdicts)}"
    found_headings = dict.fromkeys(heading for found in figures for heading in found)
    headings = sorted(found_headings, key=lambda text: text == HELD)
    return Table(
        "Runs",
        ["run", "where they differ", "steps", "loss", *headings],
        [[*row, *(found.get(heading, "-") for heading in headings)] for row, found in zip(rows, figures, strict=True)],
        "loss: the lowest of the validations, nats per observation; claims: how many hold; -: not measured, "
        "`wmkit evaluate RUN` does",
    )


def _value(config: Mapping[str, Any], key: str) -> str:
    """What the config has at a dotted key; `-` where it has no such key."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part, "-") if isinstance(value, Mapping) else "-"
    return value if isinstance(value, str) else json.dumps(value)
