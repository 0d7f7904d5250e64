"""`wmkit report FOLDER`: the report of a comparison again, from its folder."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "The tables and the page of a comparison, from its folder."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The comparison's folder."""
    parser.add_argument("folder", type=Path, help="out= of the comparison")


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print where it is; trains nothing. Raises `ValueError` where no comparison is."""
    from wmkit.comparison.report import write_report

    print(write_report(arguments.folder))
    return 0
