"""`report.html`: everything about a comparison on one page that needs no network and no other file.

What is on the page and how it is worded stands in `report.html.j2`; here it gets its tables and plots.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl

from wmkit.comparison.plan import Cell, CellFiles, Plan, Status
from wmkit.comparison.plots import COLOURS, Dots, Line, Look, dot_plot, line_plot
from wmkit.comparison.results import COSTS, KEY, Quantity, Results, number, percent, read_results
from wmkit.evaluation.predictors import IMAGINED, predictor
from wmkit.evaluation.tables import Table
from wmkit.files import write_text
from wmkit.training.run_folder import CONFIG

REPORT = "report.html"
UNEVEN = 1.25
"""Times as many steps a minute in one run as in another of the same system, above which the page says so."""
ABREAST = 4
"""Systems that 80 columns of a terminal have room for."""


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
    """The page."""
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


def tables(results: Results, world: str) -> list[Table]:
    """`system_table` for the terminal: as many systems beside each other as have room."""
    labels = [system.label for system in results.plan.systems]
    parts = [labels[first : first + ABREAST] for first in range(0, len(labels), ABREAST)]
    return [system_table(results, world, part).table for part in parts]


def system_table(results: Results, world: str, labels: Sequence[str]) -> Marked:
    """A column per system at its chosen learning rate, a row per quantity: mean over seeds, their range below it."""
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
        rows.append([quantity.title, *(_mean_and_range(quantity, cell) for cell in cells)])
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
    of = results.values.filter(world=world, metric=quantity.metric, predictor=quantity.predictor)
    values = of.join(results.cells.filter("chosen", status=Status.DONE), on=KEY, how="semi")
    looks = looks_of(results.plan)
    rows = [
        Dots(label, look, found.to_list(), float(found.mean()))  # type: ignore[arg-type]
        for label, look in looks.items()
        if len(found := values.filter(system=label)["mean"])
    ]
    metric = results.metrics[world][quantity.metric]
    baselines = results.baselines(world, metric.name)
    best = next(iter(baselines.items()), None)
    seen = [value for row in rows for value in row.values] + ([best[1]] if best else [])
    caption = f"{max(values['episodes']):,} test episodes for each run; {metric.better} is better."
    if best:
        caption += (
            f" Without a model: {', '.join(f'{predictor(n).label} {quantity.text(v)}' for n, v in baselines.items())}."
        )
        caption += " Dashed: the best of these." if len(baselines) > 1 else " It is dashed."
    plot = dot_plot(
        f"{quantity.title} on {world}: " + ", ".join(f"{row.label} {quantity.text(row.mean)}" for row in rows),
        rows,
        x_label=f"{quantity.title}, on test episodes: one dot per seed, bar: mean",
        x_range=_range(metric.unit, seen),
        format_x=_tick(metric.unit),
        format_mean=quantity.text,
        reference=best[1] if best else None,
    )
    return plot, caption


def size_curve(results: Results) -> str:
    """The headline quantity against the one setting in which the worlds differ; empty where they differ in more."""
    sizes = results.plan.sizes()
    first, *others = ({(q.metric, q.predictor): q for q in results.quantities(w.name)} for w in results.plan.worlds)
    shared = next((q for key, q in first.items() if all(key in other for other in others)), None)
    if sizes is None or shared is None:
        return ""
    key, sizes_of = sizes
    means = results.means.filter("chosen", metric=shared.metric, predictor=shared.predictor)
    lines = []
    for label, look in looks_of(results.plan).items():
        rows = {row["world"]: row for row in means.filter(system=label).iter_rows(named=True)}
        known = [(size, *(rows[w][k] for k in ("mean", "low", "high"))) for w, size in sizes_of.items() if w in rows]
        if known:
            lines.append(Line(label, look, *(list(column) for column in zip(*known, strict=True))))
    metric = results.metrics[results.plan.worlds[0].name][shared.metric]
    floors = {world: results.baselines(world, metric.name) for world in sizes_of}
    for name in floors[results.plan.worlds[0].name]:
        if all(name in floor for floor in floors.values()):
            lines.append(_baseline(name, list(sizes_of.values()), [floors[world][name] for world in sizes_of]))
    seen = [value for line in lines for value in (*line.mean, *(line.low or ()), *(line.high or ()))]
    return line_plot(
        f"{shared.title} against {key}",
        lines,
        x_label=key,
        y_label=shared.title,
        y_range=_range(metric.unit, seen),
        format_y=_tick(metric.unit),
        x_ticks=list(sizes_of.values()),
    )


def learning_curve(results: Results, world: str) -> str:
    """What learning rates are chosen by, against minutes of training; empty before a cell is done."""
    choices = [choice for (of, _), choice in results.choices.items() if of == world]
    if not choices:
        return ""
    by = choices[0].by if len({choice.by for choice in choices}) == 1 else "loss"
    done = results.cells.filter("chosen", world=world, status=Status.DONE)
    logged = results.validations.filter(name=by).join(done, on=KEY, how="semi")
    lines = []
    for label, look in looks_of(results.plan).items():
        seeds = logged.filter(system=label).partition_by("seed")
        if seeds:
            curves = [(seed["minutes"].to_numpy(), seed["value"].to_numpy()) for seed in seeds]
            lines.append(Line(label, look, *at_common_times(curves)))
    if not lines:
        return ""
    title, unit = criterion(results, world, by)
    return line_plot(
        f"{title} against training time on {world}",
        lines,
        x_label="minutes of training",
        y_label=title,
        y_range=_range(unit, [value for line in lines for value in (*(line.low or ()), *(line.high or ()))]),
        format_y=_tick(unit),
    )


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


def step_curves(results: Results, world: str) -> list[dict[str, str]]:
    """For each metric that is measured step by step: its title, its plot and how that is to be read."""
    curves = results.curves.filter(pl.col("value").is_not_nan(), world=world)
    chosen = curves.join(results.cells.filter("chosen"), on=KEY, how="semi")
    context, horizon = results.queries.get(world, (0, 0))
    found = []
    for metric in results.metrics.get(world, {}).values():
        lines = []
        steps = chosen.filter(metric=metric.name, predictor=IMAGINED)
        value = pl.col("value")
        for label, look in looks_of(results.plan).items():
            seeds = steps.filter(system=label)
            # Steps at which some seed has no value are left out.
            full = pl.len() == seeds["seed"].n_unique()
            over = seeds.group_by("step").agg(
                value.mean().alias("mean"), value.min().alias("low"), value.max().alias("high"), full=full
            )
            over = over.filter("full").sort("step")
            if len(over):
                lines.append(Line(label, look, *(over[name].to_list() for name in ("step", "mean", "low", "high"))))
        if not lines:
            continue
        for name in results.baselines(world, metric.name):
            line = curves.filter(metric=metric.name, predictor=name).group_by("step").agg(value.mean()).sort("step")
            lines.append(_baseline(name, line["step"].to_list(), line["value"].to_list()))
        seen = [value for line in lines for value in (*line.mean, *(line.low or ()), *(line.high or ()))]
        positive = [value for value in seen if value > 0]
        log = metric.better == "lower" and len(positive) > 0
        plot = line_plot(
            f"{metric.title} against steps after the context on {world}",
            lines,
            x_label="steps after the context",
            y_label=metric.title if metric.unit == "share" else f"{metric.title} ({metric.unit})",
            y_range=(0.9 * min(positive), 1.1 * max(positive)) if log else _range(metric.unit, seen),
            format_y=_tick(metric.unit),
            log_y=log,
        )
        caption = (
            f"Test episodes: {context} steps observed, {horizon} imagined from the true actions; {metric.better} is "
            f"better{', on a log scale' if log else ''}. Mean over seeds, the band is their range; baselines that need "
            f"no model are dashed. {metric.caption}"
        )
        found.append({"title": metric.title, "plot": plot, "caption": caption.strip()})
    return found


def rates_table(results: Results, world: str) -> Marked:
    """One row per system and learning rate with the validation that decides; the chosen ones are marked."""
    quantities = results.quantities(world)
    of_world = {system: choice for (name, system), choice in results.choices.items() if name == world}
    by = {choice.by for choice in of_world.values()}
    means = {
        (row["system"], row["lr"], row["metric"], row["predictor"]): row
        for row in results.means.filter(world=world).iter_rows(named=True)
    }
    rows: list[list[str]] = []
    chosen: set[int] = set()
    for system in results.plan.systems:
        choice = of_world.get(system.label)
        for lr in results.plan.rates(system):
            statuses = results.cells.filter(world=world, system=system.label, lr=lr)["status"].to_list()
            others = {str(s): statuses.count(s) for s in Status if s is not Status.DONE and s in statuses}
            score = choice.scores.get(lr) if choice else None
            if choice and choice.lr == lr:
                chosen.add(len(rows))
            row = [system.label, f"{lr:g}" + ("\nchosen" if choice and choice.lr == lr else "")]
            row.append(
                f"{statuses.count(Status.DONE)} done" + "".join(f"\n{n} {status}" for status, n in others.items())
            )
            row.append("-" if choice is None or score is None else _score(results, world, choice.by, score))
            row += [_mean_and_range(q, means.get((system.label, lr, q.metric, q.predictor))) for q in quantities]
            rows.append(row)
    title = criterion(results, world, by.pop())[0] if len(by) == 1 else "validation"
    headings = ["system", "learning rate", "cells", title, *(f"test {quantity.title}" for quantity in quantities)]
    return Marked(Table(f"Chosen by {title}", headings, rows), chosen=frozenset(chosen))


def cells_table(results: Results, world: str) -> Marked:
    """One row per cell, with the intervals over its test episodes."""
    quantities = [*results.quantities(world), *COSTS]
    values = {
        tuple(row[key] for key in (*KEY, "metric", "predictor")): row
        for row in results.values.filter(world=world).iter_rows(named=True)
    }
    rows = []
    for cell in results.cells.filter(world=world).iter_rows(named=True):
        row = [cell["system"], f"{cell['lr']:g}", str(cell["seed"]), cell["status"]]
        for quantity in quantities:
            value = values.get((*(cell[key] for key in KEY), quantity.metric, quantity.predictor))
            below = "" if value is None or value["low"] is None else f"\n{_between(quantity, value)}"
            row.append("-" if value is None else quantity.text(value["mean"]) + below)
        rows.append(row)
    headings = ["system", "learning rate", "seed", "status", *(quantity.title for quantity in quantities)]
    return Marked(Table("Every cell", headings, rows))


def criterion(results: Results, world: str, by: str) -> tuple[str, str]:
    """Title and unit of what learning rates are chosen by."""
    metric = results.metrics[world].get(by.removesuffix(f"_{IMAGINED}"))
    if metric is None:
        return "validation loss", "nats per observation"
    return f"validation {metric.title}, {predictor(IMAGINED).label}", metric.unit


def _world(results: Results, world: str) -> dict[str, Any]:
    """Everything about one world."""
    systems = [system.label for system in results.plan.systems]
    plot, caption = headline_plot(results, world)
    cells = results.cells.filter(world=world)
    named = {tuple(row[key] for key in KEY): Cell(**row) for row in cells.select(KEY).iter_rows(named=True)}
    failed, skipped = cells.filter(status=Status.FAILED), cells.filter(pl.col("skipped") > 0)
    strips = []
    for system in systems:
        tested = cells.filter("chosen", system=system, status=Status.DONE)
        if len(tested):
            cell = named[tested.select(KEY).row(0)]
            path = CellFiles.of(results.folder, cell).run / "pictures" / "strip.png"
            image = base64.b64encode(path.read_bytes()).decode("ascii") if path.exists() else ""
            strips.append({"system": system, "cell": cell, "image": image})
    return {
        "name": world,
        "headline": {"plot": plot, "caption": caption},
        "systems": system_table(results, world, systems),
        "uneven": _uneven(results, world),
        "learning": learning_curve(results, world),
        "by_loss": any(choice.by == "loss" for (of, _), choice in results.choices.items() if of == world),
        "curves": step_curves(results, world),
        "strips": strips,
        "rates": rates_table(results, world),
        "cells": cells_table(results, world),
        "failed": [(named[row[:4]], row[4]) for row in failed.select(*KEY, "error").iter_rows()],
        "skipped": [(named[row[:4]], row[4]) for row in skipped.select(*KEY, "skipped").iter_rows()],
    }


def _mean_and_range(quantity: Quantity, cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "-"
    below = _between(quantity, cell)
    return quantity.text(cell["mean"]) + (f"\n{below}" if cell["low"] != cell["high"] else "")


def _between(quantity: Quantity, value: Mapping[str, Any]) -> str:
    return f"{quantity.text(value['low'])} – {quantity.text(value['high'])}"


def _score(results: Results, world: str, by: str, score: float) -> str:
    return percent(score) if criterion(results, world, by)[1] == "share" else number(score)


def _baseline(name: str, x: list[float], mean: list[float]) -> Line:
    found = predictor(name)
    return Line(found.label, Look("soft", "--" if found.dash == "-" else found.dash), x, mean)


def _range(unit: str, values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis for these values: to 100 % for shares, from 0 where nothing is below."""
    low, high = min(values), max(values)
    if unit == "share":
        return math.floor(min(0.4, low) * 10) / 10, 1.0
    return min(0.0, 1.05 * low), 1.05 * high if high > 0 else 1.0


def _tick(unit: str) -> Any:
    return (lambda value: f"{100 * value:.0f} %") if unit == "share" else (lambda value: f"{value:,.6g}")


def _uneven(results: Results, world: str) -> list[str]:
    """Systems of which one run took many more steps a minute than another: their minutes were not the same budget."""
    costs = results.values.filter(world=world, predictor="").pivot("metric", index=KEY, values="mean")
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
