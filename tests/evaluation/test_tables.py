"""One table, three faces."""

import io

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from wmkit.evaluation.predictors import BEST_OF_N, IMAGINED, MEAN_IMAGE
from wmkit.evaluation.record import Measurements, Metric, frame_of
from wmkit.evaluation.tables import Table, measure_tables


@pytest.fixture
def table() -> Table:
    return Table("Two <systems>", ["", "a", "b"], [["error", "1.5\n1 .. 2", "-"], ["x|y", "3", "4"]], "What it says.")


def test_terminal_shows_title_cells_and_caption(table):
    console = Console(file=io.StringIO(), width=80)
    console.print(table.rich())
    text = console.file.getvalue()
    assert all(part in text for part in ("Two <systems>", "1 .. 2", "x|y", "What it says."))


def test_names_of_rows_stay_whole_in_a_narrow_terminal_and_no_value_is_cut_off():
    console = Console(file=io.StringIO(), width=80)
    rows = [[name, *["0.0123 ± 0.0011"] * 5] for name in ("imagined", "shuffled actions")]
    console.print(Table("error", ["predictor", *"abcde"], rows).rich())
    text = console.file.getvalue()
    assert "shuffled actions" in text
    assert text.count("0.0123") == text.count("0.0011") == 10


def test_markdown_keeps_a_row_on_one_line(table):
    lines = table.markdown().splitlines()
    assert lines[:3] == ["**Two <systems>**", "", "|  | a | b |"]
    assert "| error | 1.5 1 .. 2 | - |" in lines
    assert "| x\\|y | 3 | 4 |" in lines
    assert lines[-2] == "What it says."


def test_html_escapes_and_breaks_lines(table):
    html = table.html()
    assert "<caption>Two &lt;systems&gt;</caption>" in html
    assert "<td>1.5<br>1 .. 2</td>" in html
    assert html.count("<tr>") == 3


def test_rows_of_other_lengths_are_ours_to_mend():
    with pytest.raises(AssertionError, match="different lengths"):
        Table("", ["", "a"], [["only one"]])


def test_a_measure_has_a_row_per_predictor_and_a_column_per_range():
    values = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    frame = pl.concat([frame_of("error", name, values, 1) for name in (MEAN_IMAGE, IMAGINED)])
    metric = Metric("error", "grey levels", "lower", caption="Of grey.")
    [table] = measure_tables(Measurements(frame, {"error": metric}, 5, 3))
    assert table.headings == ["predictor", "step 1-3", "step 3"]
    assert [row[:2] for row in table.rows] == [["imagined", "3 ± 2"], ["mean image", "3 ± 2"]]
    assert table.title == "error: lower is better"
    assert table.caption.startswith("2 held-out episodes, context 5 | query 3; unit: grey levels")
    assert table.caption.endswith("Of grey.")


def test_beside_the_best_of_n_stands_n():
    frame = pl.concat([frame_of("error", name, np.ones((2, 3)), 1) for name in (BEST_OF_N, IMAGINED)])
    [table] = measure_tables(Measurements(frame, {"error": Metric("error", "greys", "lower")}, 5, 3, {"samples": 100}))
    assert table.caption.startswith("2 held-out episodes, context 5 | query 3; best of N = 100 futures; unit: greys")


@pytest.mark.reported(
    "names", "", "names with `[9x9]` or `[/b]` in a table of the terminal", "stand there as they are, not as markup"
)
def test_names_in_the_terminal_are_no_markup():
    console = Console(file=io.StringIO(), width=120)
    console.print(Table("maze[9x9]", ["[/b]", "[red]a"], [["run[/]", "[b]1"]], "of [x]").rich())
    text = console.file.getvalue()
    assert all(part in text for part in ("maze[9x9]", "[/b]", "[red]a", "run[/]", "[b]1", "of [x]"))
