"""The evaluation as tables for the terminal (rich) and for a README (markdown)."""

from __future__ import annotations

import dataclasses
import math

from rich import box
from rich.table import Table

from wmkit.evaluation.errors import Estimate
from wmkit.evaluation.old_predictors import MISLED, ROWS
from wmkit.evaluation.ranges import RANGES, Range, label
from wmkit.evaluation.report import Evaluation
from wmkit.evaluation.rewards import RewardAccuracy
from wmkit.evaluation.tiles import KINDS, TileAccuracy

Cell = tuple[str, ...]
"""The sum and its interval; the per-pixel mean."""


@dataclasses.dataclass(frozen=True)
class Sheet:
    """One table before it is drawn."""

    title: str
    caption: str
    headings: list[str]
    """Of the columns after the first, which names the predictor."""
    rows: dict[str, list[Cell]]

    def rich(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, caption=self.caption, box=box.SIMPLE, pad_edge=False)
        table.add_column("predictor")
        for heading in self.headings:
            table.add_column(heading, justify="right")
        for name, cells in self.rows.items():
            table.add_row(name, *("\n".join(cell) for cell in cells))
        return table

    def markdown(self) -> list[str]:
        """Lines, the last one empty."""
        lines = [f"**{self.title}**", "", "| predictor | " + " | ".join(self.headings) + " |"]
        lines.append("|---|" + "---:|" * len(self.headings))
        lines += ["| " + " | ".join([name, *map(" ".join, cells)]) + " |" for name, cells in self.rows.items()]
        return [*lines, "", self.caption, ""]


def sheets(evaluation: Evaluation, ranges: tuple[Range, ...] = RANGES) -> list[Sheet]:
    """Errors of every model; doors and rewards where there are any."""
    found = [error_sheet(evaluation, ranges)]
    if evaluation.tiles is not None:
        found.append(tile_sheet(evaluation.tiles))
    if evaluation.rewards is not None:
        found.append(reward_sheet(evaluation.rewards))
    return found


def markdown(evaluation: Evaluation, ranges: tuple[Range, ...] = RANGES) -> str:
    """All tables, with the verdicts, as markdown."""
    lines = [line for sheet in sheets(evaluation, ranges) for line in sheet.markdown()]
    lines += [f"- {verdict}" for verdict in evaluation.verdicts()]
    return "\n".join(lines) + "\n"


def error_sheet(evaluation: Evaluation, ranges: tuple[Range, ...] = RANGES) -> Sheet:
    """One row per predictor, one column for the context, one per range of query steps, one for a walk that ends."""
    steps = evaluation.columns(ranges)
    walks = evaluation.on_walk
    others = [name for name in evaluation.on_query if name not in ROWS]
    names = [name for name in ROWS if name in evaluation.on_query] + others
    return Sheet(
        f"Error per frame on {evaluation.episodes} held-out episodes, "
        f"context {evaluation.context} | query {evaluation.horizon} steps",
        "Squared error summed over H, W, C on [0, 1], ± 1.96 standard errors over episodes; in brackets the mean per "
        f"pixel and channel, the sum / {evaluation.pixels}. "
        + ("Wrong actions: those of another row. " if MISLED in names else "")
        + f"Mean image of {evaluation.mean_image_of}."
        + (" The walk: the query up to the last step that changes the view, of each episode." if walks else ""),
        ["context", *(f"step {heading}" for heading in steps), *(["the walk"] if walks else [])],
        {
            name: [
                _context(evaluation, name),
                *(_cell(evaluation, evaluation.at(name, s)) for s in steps.values()),
                *([_cell(evaluation, walks[name])] if walks else []),
            ]
            for name in names
        },
    )


def tile_sheet(tiles: TileAccuracy) -> Sheet:
    """One row per predictor and kind of tile, one column per part of the query and one for all of it."""
    steps = tiles.parts()
    return Sheet(
        "Tiles and doors in the view: how many of 100 are right",
        "Each tile of a decoded frame counts as the most similar one of the atlas. Doors: those in view, whether they "
        "are open and that with their colour. Steps after the end of the walk are left out. Means over episodes, "
        "± 1.96 standard errors.",
        [f"step {label(s)}" for s in steps],
        {
            f"{name}: {kind}": [_percent(tiles.over(name, kind, s)) for s in steps]
            for name, kinds in tiles.shares.items()
            for kind in KINDS
            if kind in kinds
        },
    )


def reward_sheet(rewards: RewardAccuracy) -> Sheet:
    """One row per way of answering."""
    number = next(iter(rewards.rows.values())).number
    return Sheet(
        f"The last reward, 0 or 1, of {number} held-out episodes",
        "Inference sees all observations, imagination those of the context and then only actions; at least 0.5 "
        "counts as 1. In brackets the 95 % interval (Wilson).",
        ["accuracy"],
        {name: [(str(row),)] for name, row in rewards.rows.items()},
    )


def _context(evaluation: Evaluation, name: str) -> Cell:
    errors = evaluation.on_context.get(name)
    return _cell(evaluation, errors.whole()) if errors else ("-",)


def _cell(evaluation: Evaluation, estimate: Estimate) -> Cell:
    per_pixel = estimate.mean / evaluation.pixels
    return f"{estimate.mean:.1f} ± {estimate.half_width:.1f}", f"({per_pixel:.5f})"


def _percent(estimate: Estimate) -> Cell:
    if math.isnan(estimate.mean):  # no door is in view
        return ("-",)
    return (f"{100 * estimate.mean:.1f} ± {100 * estimate.half_width:.1f}",)
