"""Comparisons: systems x worlds x learning rates x seeds, each run in a process of its own, and one page about them."""

from wmkit.comparison.command import run_comparison
from wmkit.comparison.plan import Cell, CellFiles, Plan, PlannedWorld, Status, System, load_plan
from wmkit.comparison.results import Results, read_results

__all__ = [
    "Cell",
    "CellFiles",
    "Plan",
    "PlannedWorld",
    "Results",
    "Status",
    "System",
    "load_plan",
    "read_results",
    "run_comparison",
]
