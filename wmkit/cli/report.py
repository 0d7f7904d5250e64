"""`wmkit report FOLDER`: the report of a comparison again, from its folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

HELP = "The tables and the page of a comparison, from its folder."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The comparison's folder."""
    parser.add_argument("folder", type=Path, help="out= of the comparison")


def run(arguments: argparse.Namespace) -> int:
    """Write the report, print tables and where it is; trains nothing. Raises `ValueError` where no comparison is."""
    from wmkit.comparison.report import tables, write_report
    from wmkit.comparison.results import read_results

    report = write_report(arguments.folder)
    results = read_results(arguments.folder)
    console = Console()
    for world in results.plan.worlds:
        console.print(*(table.rich() for table in tables(results, world.name, console.width)))
    print(report)
    return 0
