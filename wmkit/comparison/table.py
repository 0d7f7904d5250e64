"""The comparison as tables for the terminal (rich)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from wmkit.comparison.cell import Status
from wmkit.comparison.choice import Spread
from wmkit.comparison.summary import COST, QUALITY, Column, Summary, spread

ABREAST = 4
"""Systems that 80 columns have room for."""


def rich_tables(summary: Summary, world: str) -> Iterator[Table]:
    """One column per system at its chosen learning rate, one row per figure: mean over seeds, range below it."""
    systems = [system.label for system in summary.plan.systems]
    for first in range(0, len(systems), ABREAST):
        yield _rich_table(summary, world, systems[first : first + ABREAST])


def _rich_table(summary: Summary, world: str, systems: Sequence[str]) -> Table:
    table = Table(title=f"{world}, {summary.plan.budget()}", box=box.SIMPLE, pad_edge=False)
    choices = [summary.choice(world, system) for system in systems]
    table.add_column("")
    for system in systems:
        table.add_column(system, justify="right", overflow="fold")
    table.add_row("learning rate", *(f"{choice.lr:g}" if choice else "-" for choice in choices))
    table.add_row("seeds done", *(seeds_text(summary, world, system) for system in systems))
    for column in (*summary.columns(world, QUALITY), *summary.columns(world, COST)):
        cells = (_cell(spread(summary.chosen(world, system), column), column) for system in systems)
        table.add_row(column.heading, *cells)
    return table


def seeds_text(summary: Summary, world: str, system: str) -> str:
    """Seeds done at the chosen learning rate, of how many; failed ones are said."""
    choice = summary.choice(world, system)
    cells = summary.of(world, system, choice.lr) if choice else summary.of(world, system)
    done = sum(result.status is Status.DONE for result in cells)
    failed = sum(result.status is Status.FAILED for result in cells)
    return f"{done} of {len(cells)}" + (f", {failed} failed" if failed else "")


def caption(summary: Summary) -> str:
    """How far it is and what the figures are."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.count().items()))
    return (
        f"{len(summary.results)} cells: {counts}. Test episodes, last checkpoint; learning rate chosen on validation; "
        "mean over seeds, range below."
    )


def _cell(value: Spread | None, column: Column) -> str:
    if value is None:
        return "-"
    low, high = column.text(value.low), column.text(value.high)
    return column.text(value.mean) + (f"\n{low} .. {high}" if low != high else "")
