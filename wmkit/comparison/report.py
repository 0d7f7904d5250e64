"""`report.html`: everything about a comparison on one page that needs no network and no other file.

What is on the page and how it is worded stands in `report.html.j2`; here it gets its tables and plots.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl

from wmkit.comparison.plan import Cell, CellFiles, Plan, Status
from wmkit.comparison.plots import Dots, Line, dot_plot, line_plot
from wmkit.comparison.results import COST, COSTS, KEY, LOSS, Results, read_results
from wmkit.evaluation.plots.look import COLOURS, Look
from wmkit.evaluation.predictors import IMAGINED, predictor
from wmkit.evaluation.tables import Table
from wmkit.files import write_text
from wmkit.training.run_folder import CONFIG

REPORT = "report.html"
UNEVEN = 1.25
"""Times as many steps a minute in one run as in another of the same system, above which the page says so."""
NAMES = 24
"""Width of the names of rows where a terminal has little room: longer ones are broken at their spaces."""


@dataclasses.dataclass(frozen=True)
class Marked:
    """A table of the page with what stands out in it."""

    table: Table
    best: frozenset[tuple[int, int]] = frozenset()
    """Rows and columns of cells in bold."""
    chosen: frozenset[int] = frozenset()
    """Rows on another ground."""


def write_report(folder: Path) -> Path:
    """Read the comparison in `folder`; write `comparison.json` and `report.html` into it, and return the latter.

    Trains nothing, and says what is missing of a comparison under way. Raises `ValueError` as `read_results` does.
    """
    results = read_results(folder)
    results.save()
    write_text(folder / REPORT, render(results))
    return folder / REPORT


def render(results: Results) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wmkit.comparison", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    looks = looks_of(results.plan)
    starts = _starts(results.folder)
    return environment.get_template(f"{REPORT}.j2").render(
        plan=results.plan,
        results=results,
        counts=results.count(),
        colours=COLOURS,
        looks={label: look.colour for label, look in looks.items()},
        size_curve=size_curve(results),
        worlds=[_world(results, world.name) for world in results.plan.worlds],
        configs=_configs(results),
        starts=[json.dumps(start, indent=2) for start in starts],
        machines=list(dict.fromkeys("; ".join(filter(None, (s.get("processor"), *s.get("gpus", [])))) for s in starts)),
    )


def tables(results: Results, world: str, width: int) -> list[Table]:
    """`system_table` for a terminal `width` columns wide: as many systems beside each other as have room, then more.

    A range takes two lines, and so do long names of rows where room is short; no other value is broken.
    """
    whole = system_table(results, world).table
    rows = [[cell.replace(" – ", " –\n") for cell in row] for row in whole.rows]
    columns = zip(whole.headings, *rows, strict=True)
    names, *taken = (max(len(line) for cell in column for line in cell.split("\n")) for column in columns)
    room = width - 2 - sum(taken) - len(taken)  # a space on either side, and one before each system
    names = min(names, max(NAMES, room))
    parts: list[list[int]] = []
    room = 0
    for number, needed in enumerate(taken, start=1):
        if needed + 1 > room:
            parts.append([0])
            room = width - 2 - names
        parts[-1].append(number)
        room -= needed + 1
    lines = [[*whole.headings], *([textwrap.fill(name, names), *values] for name, *values in rows)]
    cut = ([[line[number] for number in part] for line in lines] for part in parts)
    return [Table(whole.title, headings, cells) for headings, *cells in cut]


def system_table(results: Results, world: str) -> Marked:
    """A column per system at its chosen learning rate, a row per quantity: mean over seeds, their range below it."""
    labels = [system.label for system in results.plan.systems]
    found = {
        (row["system"], row["metric"], row["predictor"]): row
        for row in results.means.filter("chosen", world=world).iter_rows(named=True)
    }
    choices = [results.choices.get((world, label)) for label in labels]
    rows = [
        ["learning rate", *(f"{choice.lr:g}" if choice else "-" for choice in choices)],
        ["seeds done", *(seeds_done(results, world, label) for label in labels)],
    ]
    best = set()
    for quantity in [*results.quantities(world), *COSTS]:
        cells = [found.get((label, quantity.metric, quantity.predictor)) for label in labels]
        best |= {(len(rows), column) for column, cell in enumerate(cells, start=1) if cell and cell["best"]}
        rows.append([quantity.title, *(quantity.cell(cell) for cell in cells)])
    return Marked(Table(f"{world}, {results.plan.budget()}", ["", *labels], rows), frozenset(best))


def seeds_done(results: Results, world: str, system: str) -> str:
    """Seeds done at the chosen learning rate, of how many, and how many failed."""
    cells = results.cells.filter(world=world, system=system)
    chosen = cells.filter("chosen")
    statuses = (cells if chosen.is_empty() else chosen)["status"].to_list()
    failed = statuses.count(Status.FAILED)
    return f"{statuses.count(Status.DONE)} of {len(statuses)}" + (f", {failed} failed" if failed else "")


def looks_of(plan: Plan) -> dict[str, Look]:
    """How each system is drawn."""
    return {system.label: Look.of_system(number) for number, system in enumerate(plan.systems)}


def headline_plot(results: Results, world: str) -> tuple[str, str]:
    """A dot per seed of each system for the headline quantity, and a caption; empty before a cell is tested."""
    quantities = results.quantities(world)
    if not quantities:
        return "", ""
    quantity = quantities[0]
    values = results.of_chosen(results.values, world=world, metric=quantity.metric, predictor=quantity.predictor)
    seeds = {label: values.filter(system=label)["mean"].to_list() for label in looks_of(results.plan)}
    rows = [Dots(label, look, seeds[label]) for label, look in looks_of(results.plan).items() if seeds[label]]
    baselines = results.baselines(world, quantity.metric)
    better = results.metrics[world][quantity.metric].better
    caption = f"{max(values['episodes']):,} test episodes for each run; {better} is better."
    if baselines:
        named = ", ".join(f"{predictor(name).label} {quantity.text(value)}" for name, value in baselines.items())
        caption += f" Without a model: {named}. Dashed: the best{' of these' if len(baselines) > 1 else ''}."
    plot = dot_plot(
        f"{quantity.title} on {world}: " + ", ".join(f"{row.label} {quantity.text(row.mean)}" for row in rows),
        rows,
        x_label=f"{quantity.title}, on test episodes: one dot per seed, bar: mean",
        unit=quantity.unit,
        text=quantity.text,
        dashed=next(iter(baselines.values()), None),
    )
    return plot, caption


def size_curve(results: Results) -> str:
    """The headline quantity against the one setting in which the worlds differ; empty where they differ in more."""
    sizes = results.plan.sizes()
    if sizes is None:
        return ""
    key, size_of = sizes
    first, *others = (results.quantities(world) for world in size_of)
    shared = [quantity for quantity in first if all(quantity in other for other in others)]
    if not shared:
        return ""
    quantity, lines = shared[0], []
    means = results.means.filter("chosen", metric=quantity.metric, predictor=quantity.predictor)
    for label, look in looks_of(results.plan).items():
        rows = {row["world"]: row for row in means.filter(system=label).iter_rows(named=True)}
        there = [world for world in size_of if world in rows]
        curves = ([rows[world][name] for world in there] for name in ("mean", "low", "high"))
        if there:
            lines.append(Line(label, look, [size_of[world] for world in there], *curves))
    floors = [results.baselines(world, quantity.metric) for world in size_of]
    for name in floors[0]:
        if all(name in floor for floor in floors):
            lines.append(_baseline(name, [*size_of.values()], [floor[name] for floor in floors]))
    title, ticks = f"{quantity.title} against {key}", [*size_of.values()]
    return line_plot(title, lines, x_label=key, y_label=quantity.title, unit=quantity.unit, x_ticks=ticks)


def learning_curve(results: Results, world: str) -> str:
    """What learning rates are chosen by, against minutes of training; empty before a cell is done."""
    by, lines = results.criterion(world), []
    finite = results.validations.filter(pl.col("value").is_finite())
    logged = results.of_chosen(finite, world=world, name=by.metric)
    for label, look in looks_of(results.plan).items():
        seeds = logged.filter(system=label).partition_by("seed")
        if seeds:
            curves = [(seed["minutes"].to_numpy(), seed["value"].to_numpy()) for seed in seeds]
            lines.append(Line(label, look, *at_common_times(curves)))
    if not lines:
        return ""
    title = f"{by.title} against training time on {world}"
    return line_plot(title, lines, x_label="minutes of training", y_label=by.title, unit=by.unit)


def at_common_times(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[list[float], ...]:
    """Times, and there the mean, least and greatest value of curves (times, values) that were sampled at others.

    All are read off at the times of all, from where each one has begun. The last value of one that ends early is held:
    runs end within a step of each other.
    """
    begin, end = max(x[0] for x, _ in curves), max(x[-1] for x, _ in curves)
    times = np.unique(np.concatenate([x for x, _ in curves]))
    times = times[(times >= begin) & (times <= end)]
    values = np.stack([np.interp(times, x, y) for x, y in curves])  # (seeds, times)
    return times.tolist(), values.mean(0).tolist(), values.min(0).tolist(), values.max(0).tolist()


def step_curves(results: Results, world: str) -> list[tuple[str, str]]:
    """For each metric that is measured step by step: its plot and how that is to be read."""
    curves = results.curves.filter(pl.col("value").is_finite(), world=world)
    imagined = results.of_chosen(curves, predictor=IMAGINED)
    value, found = pl.col("value"), []
    for metric in results.metrics.get(world, {}).values():
        lines = []
        for label, look in looks_of(results.plan).items():
            seeds = imagined.filter(metric=metric.name, system=label)
            over = seeds.group_by("step").agg(
                value.mean().alias("mean"), value.min().alias("low"), value.max().alias("high"), count=pl.len()
            )
            # Steps at which some seed has no value are left out.
            over = over.filter(pl.col("count") == seeds["seed"].n_unique()).sort("step")
            if len(over):
                lines.append(Line(label, look, *(over[name].to_list() for name in ("step", "mean", "low", "high"))))
        if not lines:
            continue
        for name in results.baselines(world, metric.name):
            line = curves.filter(metric=metric.name, predictor=name).group_by("step").agg(value.mean()).sort("step")
            lines.append(_baseline(name, line["step"].to_list(), line["value"].to_list()))
        log = metric.better == "lower"
        plot = line_plot(
            f"{metric.title} against steps after the context on {world}",
            lines,
            x_label="steps after the context",
            y_label=metric.title,
            unit=metric.unit,
            log=log,
        )
        observed, horizon = results.queries[world]
        caption = (
            f"Test episodes: {observed} steps observed, {horizon} imagined from the true actions; {metric.better} is "
            f"better{', on a log scale' if log else ''}. Unit: {metric.unit}. Mean over seeds, the band is their "
            f"range; baselines that need no model are dashed. {metric.caption}"
        )
        found.append((plot, caption.strip()))
    return found


def rates_table(results: Results, world: str) -> Marked:
    """One row per system and learning rate with the validation that decides; the chosen ones are marked."""
    quantities, by = results.quantities(world), results.criterion(world)
    means = {
        tuple(row[key] for key in ("system", "lr", "metric", "predictor")): row
        for row in results.means.filter(world=world).iter_rows(named=True)
    }
    rows: list[list[str]] = []
    chosen: set[int] = set()
    for system in results.plan.systems:
        choice = results.choices.get((world, system.label))
        for lr in results.plan.rates(system):
            statuses = results.cells.filter(world=world, system=system.label, lr=lr)["status"].to_list()
            others = [f"\n{statuses.count(status)} {status}" for status in Status if status in statuses]
            score = choice.scores.get(lr) if choice and choice.by == by.metric else None
            if choice and choice.lr == lr:
                chosen.add(len(rows))
            rows.append(
                [
                    system.label,
                    f"{lr:g}" + ("\nchosen" if len(rows) in chosen else ""),
                    "".join(others).strip(),
                    "-" if score is None else by.text(score) if math.isfinite(score) else "not finite",
                    *(q.cell(means.get((system.label, lr, q.metric, q.predictor))) for q in quantities),
                ]
            )
    headings = ["system", "learning rate", "cells", by.title, *(f"test {quantity.title}" for quantity in quantities)]
    return Marked(Table(f"Chosen by {by.title}", headings, rows), chosen=frozenset(chosen))


def cells_table(results: Results, world: str) -> Marked:
    """One row per cell, with the intervals over its test episodes."""
    quantities = [*results.quantities(world), *COSTS]
    values = {
        tuple(row[key] for key in (*KEY, "metric", "predictor")): row
        for row in results.values.filter(world=world).iter_rows(named=True)
    }
    rows = []
    for cell in results.cells.filter(world=world).iter_rows(named=True):
        of = tuple(cell[key] for key in KEY)
        found = [quantity.cell(values.get((*of, quantity.metric, quantity.predictor))) for quantity in quantities]
        rows.append([cell["system"], f"{cell['lr']:g}", str(cell["seed"]), cell["status"], *found])
    headings = ["system", "learning rate", "seed", "status", *(quantity.title for quantity in quantities)]
    return Marked(Table("Every cell", headings, rows))


def _world(results: Results, world: str) -> dict[str, Any]:
    """Everything about one world."""
    cells = results.cells.filter(world=world)
    strips = []
    for system in results.plan.systems:
        tested = cells.filter("chosen", system=system.label, status=Status.DONE).head(1)
        for row in tested.select(KEY).iter_rows(named=True):
            path = CellFiles.of(results.folder, Cell(**row)).run / "pictures" / "strip.png"
            image = base64.b64encode(path.read_bytes()).decode("ascii") if path.exists() else ""
            strips.append({"system": system.label, "cell": Cell(**row), "image": image})
    noted = {
        name: [(Cell(**{key: row[key] for key in KEY}), row[name]) for row in cells.filter(of).iter_rows(named=True)]
        for name, of in (("error", pl.col("status") == Status.FAILED), ("skipped", pl.col("skipped") > 0))
    }
    return {
        "name": world,
        "headline": headline_plot(results, world),
        "systems": system_table(results, world),
        "uneven": _uneven(results, world),
        "learning": learning_curve(results, world),
        "by_loss": results.criterion(world).metric == LOSS,
        "curves": step_curves(results, world),
        "strips": strips,
        "rates": rates_table(results, world),
        "cells": cells_table(results, world),
        "failed": noted["error"],
        "skipped": noted["skipped"],
    }


def _baseline(name: str, x: list[float], mean: list[float]) -> Line:
    found = predictor(name)
    return Line(found.label, Look("soft", "--" if found.dash == "-" else found.dash), x, mean)


def _uneven(results: Results, world: str) -> list[str]:
    """Systems of which one run took many more steps a minute than another: their minutes were not the same budget."""
    costs = results.values.filter(world=world, predictor=COST).pivot("metric", index=KEY, values="mean")
    if results.plan.minutes is None or not {"steps", "minutes"} <= set(costs.columns):
        return []
    pace = (pl.col("steps") / pl.col("minutes")).filter(pl.col("minutes") > 0)
    ends = costs.group_by("system", maintain_order=True).agg(low=pace.min(), high=pace.max())
    uneven = ends.filter(pl.col("high") > UNEVEN * pl.col("low"))
    return [f"{system} took {low:,.0f} to {high:,.0f} steps a minute" for system, low, high in uneven.iter_rows()]


def _configs(results: Results) -> dict[str, str]:
    """The whole config of one cell per system that has one."""
    found = {}
    for cell in results.plan.cells():
        files = CellFiles.of(results.folder, cell)
        path = next((path for path in (files.config, files.run / CONFIG) if path.exists()), None)
        if path is not None and cell.system not in found:
            found[cell.system] = path.read_text(encoding="utf-8")
    return found


def _starts(folder: Path) -> list[dict[str, Any]]:
    """Machines and versions that cells had, each once. Their commands are those of workers: left out."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("cells/*/versions.json")):
        for start in json.loads(path.read_text(encoding="utf-8"))["starts"]:
            shown = {key: value for key, value in start.items() if key != "command"}
            if shown not in found:
                found.append(shown)
    return found
