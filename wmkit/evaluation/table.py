"""The evaluation as a table for the terminal (rich) and for a README (markdown)."""

from __future__ import annotations

from rich import box
from rich.table import Table

from wmkit.evaluation.errors import Estimate
from wmkit.evaluation.report import RANGES, ROWS, Evaluation, Range

Cell = tuple[str, ...]
"""The sum and its interval; the per-pixel mean."""


def rich_table(evaluation: Evaluation, ranges: tuple[Range, ...] = RANGES) -> Table:
    """One row per predictor, one column for the context and one per range of query steps."""
    table = Table(title=title(evaluation), caption=caption(evaluation), box=box.SIMPLE, pad_edge=False)
    table.add_column("predictor")
    for heading in headings(evaluation, ranges):
        table.add_column(heading, justify="right")
    for name, cells in rows(evaluation, ranges).items():
        table.add_row(name, *("\n".join(cell) for cell in cells))
    return table


def markdown(evaluation: Evaluation, ranges: tuple[Range, ...] = RANGES) -> str:
    """The same table, with its verdicts, as markdown."""
    columns = headings(evaluation, ranges)
    lines = [f"**{title(evaluation)}**", "", "| predictor | " + " | ".join(columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    lines += [
        "| " + " | ".join([name, *map(" ".join, cells)]) + " |" for name, cells in rows(evaluation, ranges).items()
    ]
    lines += ["", caption(evaluation), ""]
    lines += [f"- {verdict}" for verdict in evaluation.verdicts()]
    return "\n".join(lines) + "\n"


def title(evaluation: Evaluation) -> str:
    """What was compared on what."""
    return (
        f"Error per frame on {evaluation.episodes} held-out episodes, "
        f"context {evaluation.context} | query {evaluation.horizon} steps"
    )


def caption(evaluation: Evaluation) -> str:
    """The unit, the interval, and what the rows are."""
    return (
        "Squared error summed over H, W, C on [0, 1], ± 1.96 standard errors over episodes; in brackets the mean per "
        f"pixel and channel, the sum / {evaluation.pixels}. Wrong actions: those of another row. "
        f"Mean image of {evaluation.mean_image_of}."
    )


def headings(evaluation: Evaluation, ranges: tuple[Range, ...]) -> list[str]:
    """The context first, then the ranges as cut to the horizon."""
    return ["context", *(f"step {heading}" for heading in evaluation.columns(ranges))]


def rows(evaluation: Evaluation, ranges: tuple[Range, ...]) -> dict[str, list[Cell]]:
    """Cells by predictor; predictors of the query alone have none for the context."""
    steps = evaluation.columns(ranges).values()
    return {
        name: [_context(evaluation, name), *(_cell(evaluation, evaluation.at(name, s)) for s in steps)] for name in ROWS
    }


def _context(evaluation: Evaluation, name: str) -> Cell:
    errors = evaluation.on_context.get(name)
    return _cell(evaluation, errors.whole()) if errors else ("-",)


def _cell(evaluation: Evaluation, estimate: Estimate) -> Cell:
    per_pixel = estimate.mean / evaluation.pixels
    return f"{estimate.mean:.1f} ± {estimate.half_width:.1f}", f"({per_pixel:.5f})"
