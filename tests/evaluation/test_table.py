"""The tables as people read them."""

import dataclasses
import io

import torch
from rich.console import Console

from wmkit.evaluation.errors import Errors, Estimate
from wmkit.evaluation.old_predictors import FIRST_MAP, GENERATION, ROWS
from wmkit.evaluation.proportion import Proportion
from wmkit.evaluation.rewards import RewardAccuracy
from wmkit.evaluation.table import error_sheet, markdown, sheets
from wmkit.evaluation.tiles import DOOR_MAJORITY, OPEN, TILES, TileAccuracy


def test_terminal_table_has_a_row_per_predictor_and_a_column_per_range(evaluation):
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(error_sheet(evaluation).rich())
    text = console.export_text()
    for word in (*ROWS, "context", "step 1-5", "step 6-20", "step 50", "4 held-out episodes", "sum / 192"):
        assert word in text
    line = next(line for line in text.splitlines() if "generation  " in line)
    assert line.count("60.0 ± 0.0") == 3


def test_markdown_says_the_same_and_the_verdicts(evaluation):
    lines = markdown(evaluation).splitlines()
    assert "| predictor | context | step 1-5 | step 6-20 | step 50 |" in lines
    assert (
        "| copy last context frame | - | 150.0 ± 0.0 (0.78125) | 150.0 ± 0.0 (0.78125) | 150.0 ± 0.0 (0.78125) |"
        in lines
    )
    assert sum(line.startswith("- yes") for line in lines) == 5


def test_other_ranges_make_other_columns(evaluation):
    assert "| predictor | context | step 2-4 | step 50 |" in markdown(evaluation, ranges=((2, 4), (60, 90)))


def test_rewards_and_doors_come_with_tables_of_their_own(evaluation):
    shares = {GENERATION: {TILES: torch.full((4, 50), 0.9), OPEN: torch.full((4, 50), 0.7)}}
    shares |= {name: {OPEN: torch.full((4, 50), 0.6)} for name in (FIRST_MAP, DOOR_MAJORITY)}
    names = ("inference", "imagination", "always_1", "majority")
    full = dataclasses.replace(
        evaluation,
        on_query=evaluation.on_query | {FIRST_MAP: Errors(torch.full((4, 50), 61.0))},
        tiles=TileAccuracy(shares, moving=torch.ones(4, 50, dtype=torch.bool)),
        on_walk={name: Estimate(7.0, 0.5) for name in (*evaluation.on_query, FIRST_MAP)},
        rewards=RewardAccuracy({name: Proportion(81, 263) for name in names}),
    )
    assert len(sheets(full)) == 3
    lines = markdown(full).splitlines()
    assert "| imagination | 30.8% [25.5%, 36.6%] |" in lines
    whole = " | ".join(["61.0 ± 0.0 (0.31771)"] * 3)
    assert f"| {FIRST_MAP} | - | {whole} | 7.0 ± 0.5 (0.03646) |" in lines
    assert "| predictor | context | step 1-5 | step 6-20 | step 50 | the walk |" in lines
    assert full.to_json()["walk_table"][FIRST_MAP]["mean"] == 7.0
    cells = " | ".join(["70.0 ± 0.0"] * 5)
    assert f"| {GENERATION}: {OPEN} | {cells} |" in lines
    assert "| predictor | step 1-12 | step 13-25 | step 26-38 | step 39-50 | step 1-50 |" in lines
    assert sum(line.startswith(("- yes", "- NO")) for line in lines) == len(full.verdicts()) == 11
    assert any(line.startswith(f"- yes  generation is below {FIRST_MAP} at 1-50: 60.0") for line in lines)
