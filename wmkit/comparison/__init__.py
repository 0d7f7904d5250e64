"""Comparisons: systems x worlds x learning rates x seeds, each run in a process of its own, and one page about them."""

from wmkit.comparison.command import run_comparison as run_comparison
from wmkit.comparison.plan import Cell as Cell
from wmkit.comparison.plan import CellFiles as CellFiles
from wmkit.comparison.plan import Plan as Plan
from wmkit.comparison.plan import PlannedWorld as PlannedWorld
from wmkit.comparison.plan import Status as Status
from wmkit.comparison.plan import System as System
from wmkit.comparison.plan import load_plan as load_plan
from wmkit.comparison.results import Results as Results
from wmkit.comparison.results import read_results as read_results
