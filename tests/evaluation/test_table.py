"""The table as people read it."""

import io

from rich.console import Console

from wmkit.evaluation.report import ROWS
from wmkit.evaluation.table import markdown, rich_table


def test_terminal_table_has_a_row_per_predictor_and_a_column_per_range(evaluation):
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(rich_table(evaluation))
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
