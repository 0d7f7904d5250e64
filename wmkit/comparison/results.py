"""The results of a comparison as tables: its cells, their validations, values and curves, and the means over seeds.

Every table has the columns world, system, lr and seed, which say of which cell a row is. They are read once; pages,
plots and tables of the terminal only filter them. No measure is known by name: values come from the records of each
cell, and a measure's attributes say how they are shown and which way is better.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from wmkit.comparison.plan import Cell, CellFiles, Plan, Status, load_plan
from wmkit.config import load_config
from wmkit.evaluation.held_out import context_and_horizon
from wmkit.evaluation.predictors import IMAGINED, NO_MEMORY, OBSERVED, predictor
from wmkit.evaluation.record import RECORDS, Measurements, Metric
from wmkit.files import write_json
from wmkit.probing import ProbeResults
from wmkit.probing.run import FOLDER as PROBES
from wmkit.training.checkpoints import CheckpointFolder
from wmkit.training.log import read_lines

JSON = "comparison.json"
CELL = {"world": pl.String, "system": pl.String, "lr": pl.Float64, "seed": pl.Int64}
"""Columns that every table begins with: which cell a row is of."""
KEY = list(CELL)
CELLS = CELL | {"status": pl.String, "error": pl.String, "skipped": pl.Int64}
VALIDATIONS = CELL | {"step": pl.Int64, "minutes": pl.Float64, "name": pl.String, "value": pl.Float64}
MEASURED = CELL | {"metric": pl.String, "predictor": pl.String}
VALUES = MEASURED | {"mean": pl.Float64, "low": pl.Float64, "high": pl.Float64, "episodes": pl.Int64}
CURVES = MEASURED | {"step": pl.Int64, "value": pl.Float64}
COST = ""
"""What stands for the predictor in the rows of costs."""
LOSS = "loss"
"""As validations log it."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A row of the tables: what a predictor got in a metric, or a cost."""

    metric: str
    predictor: str
    title: str
    text: Callable[[float], str]
    unit: str = ""

    @classmethod
    def of(cls, metric: Metric, name: str) -> Quantity:
        """The values of the predictor called `name`."""
        text = percent if metric.unit == "share" else number
        return cls(metric.name, name, f"{metric.title}, {predictor(name).label}", text, metric.unit)

    def cell(self, row: Mapping[str, Any] | None) -> str:
        """The mean in a row of a table, and below it what it lies between, if that says more."""
        if row is None:
            return "-"
        ends = ["" if row[end] is None else self.text(row[end]) for end in ("low", "high")]
        return self.text(row["mean"]) + (f"\n{ends[0]} – {ends[1]}" if ends[0] != ends[1] else "")


def percent(value: float) -> str:
    """`97.3 %`."""
    return f"{100 * value:.1f} %"


def number(value: float) -> str:
    """`1,234`, `12.3`, `1.23`, `0.0123`."""
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


COSTS = (
    Quantity("parameters", COST, "parameters", lambda value: f"{value / 1e6:.2f} M"),
    Quantity("steps", COST, "steps", lambda value: f"{value:,.0f}"),
    Quantity("minutes", COST, "training", lambda value: f"{value:.1f} min"),
    Quantity("frames_per_second", COST, "frames/s", lambda value: f"{value:,.0f}"),
    Quantity("peak_memory_bytes", COST, "peak memory", lambda value: f"{value / 2**20:,.0f} MiB"),
    Quantity("state_bytes", COST, "state of a row", lambda value: f"{value / 2**10:,.1f} KiB"),
    Quantity("imagined_step_ms", COST, "imagined step of a row", lambda value: f"{value:.2f} ms"),
)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The learning rate that a system is judged by on one world."""

    lr: float
    seeds: tuple[int, ...]
    """Seeds whose validations were compared: those that every learning rate in question has finished."""
    by: str
    """What was compared: `loss` or the name that training logs for a measure, such as `rewards_imagined`."""
    scores: dict[float, float]
    """Mean of it over `seeds`, for each learning rate in question."""


def choose(cells: pl.DataFrame, validated: Sequence[Metric]) -> Choice | None:
    """The best learning rate among the cells of one system on one world; None before one is done.

    cells: `lr`, `seed`, `status`, and of the last validation of cells that are done the `loss` and, where they are
    logged, the values of `validated` metrics, best known as `NAME_imagined`; null in other cells. The best mean of the
    first such metric that all have wins, the lower loss where it ties; the lowest mean loss where there is none. A
    learning rate with a failed cell is out unless all have one.
    """
    done = cells.filter(pl.col("loss").is_not_null())
    if done.is_empty():
        return None
    failed = cells.filter(pl.col("status") == Status.FAILED)["lr"].unique().to_list()
    sound = done.filter(~pl.col("lr").is_in(failed))
    sound = done if sound.is_empty() else sound
    rates = sound["lr"].n_unique()
    seeds = sound.group_by("seed").agg(pl.col("lr").n_unique()).filter(pl.col("lr") == rates)["seed"]
    seeds = (sound["seed"].unique() if seeds.is_empty() else seeds).sort()
    compared = sound.filter(pl.col("seed").is_in(seeds.to_list()))
    names = {f"{metric.name}_{IMAGINED}": metric.better for metric in validated}
    by = next((n for n in names if n in compared.columns and not compared[n].null_count()), LOSS)
    worst = {by: -math.inf if names.get(by) == "higher" else math.inf, LOSS: math.inf}  # stands for what is no number
    numbers = compared.with_columns(pl.col(name).fill_nan(value) for name, value in worst.items())
    means = numbers.group_by("lr").agg(pl.col(*{by, "loss"}).mean())
    means = means.sort(by, "loss", "lr", descending=[names.get(by) == "higher", False, False])
    return Choice(means["lr"][0], tuple(seeds), by, dict(sorted(means.select("lr", by).iter_rows())))


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """The plan of a comparison and everything its cells have come to so far."""

    folder: Path
    plan: Plan
    cells: pl.DataFrame
    """In the plan's order: status, error, skipped (steps without a finite gradient) and whether the lr is chosen."""
    validations: pl.DataFrame
    """step, minutes of training, name, value: what was logged of the validation split."""
    values: pl.DataFrame
    """metric, predictor, mean, low, high, episodes: each cell's test and, with the predictor `COST`, its costs."""
    curves: pl.DataFrame
    """metric, predictor, step, value: means over test episodes, step by step after the context."""
    means: pl.DataFrame
    """metric, predictor, mean, low, high, seeds, best: `values` over seeds, their mean and range; best of those chosen
    on the world."""
    metrics: Mapping[str, Mapping[str, Metric]]
    """By world and name, the headline first."""
    choices: Mapping[tuple[str, str], Choice]
    """By world and system; none before a cell is done."""
    queries: Mapping[str, tuple[int, int]]
    """By world: observed and imagined steps of the test."""

    def count(self) -> Counter[Status]:
        """How many cells have each status."""
        return Counter(map(Status, self.cells["status"]))

    @property
    def complete(self) -> bool:
        """Whether every cell has ended, well or not."""
        return not self.count().keys() - {Status.DONE, Status.FAILED}

    def of_chosen(self, table: pl.DataFrame, **of: str) -> pl.DataFrame:
        """The rows of a table, with those values in its columns, that are of cells done at a chosen learning rate."""
        chosen = self.cells.filter("chosen", status=Status.DONE)
        return table.filter(**of).join(chosen, on=KEY, how="semi", maintain_order="left")

    def runs(self, **of: str) -> dict[Cell, Path]:
        """The run folders of cells that are done at a chosen learning rate, with those values in their columns."""
        done = self.cells.filter("chosen", status=Status.DONE, **of).select(KEY)
        cells = [Cell(**row) for row in done.iter_rows(named=True)]
        return {cell: CellFiles.of(self.folder, cell).run for cell in cells}

    def probed(self, world: str) -> dict[str, ProbeResults]:
        """By system what the probes of its runs in a world say, pooled over seeds; systems without are left out."""
        found = {}
        for system in self.plan.systems:
            places = [run / PROBES for run in self.runs(world=world, system=system.label).values()]
            if models := [ProbeResults.load(place) for place in places if place.is_dir()]:
                found[system.label] = ProbeResults.pooled(models)
        return found

    def quantities(self, world: str) -> list[Quantity]:
        """Those of the model that some cell of the world has values of, the headline first."""
        there = set(self.values.filter(world=world).select("metric", "predictor").unique().iter_rows())
        rows = IMAGINED, OBSERVED, NO_MEMORY
        found = [Quantity.of(m, name) for m in self.metrics.get(world, {}).values() for name in rows]
        return [quantity for quantity in found if (quantity.metric, quantity.predictor) in there]

    def baselines(self, world: str, metric: str) -> dict[str, float]:
        """The values of a metric that need no model, best first; they are of the same episodes for all systems."""
        rows = self.values.filter(world=world, metric=metric).group_by("predictor").agg(pl.col("mean").mean())
        found = {name: mean for name, mean in rows.iter_rows() if name != COST and predictor(name).kind == "baseline"}
        higher = self.metrics[world][metric].better == "higher"
        return dict(sorted(found.items(), key=lambda item: (-item[1] if higher else item[1], item[0])))

    def criterion(self, world: str) -> Quantity:
        """What learning rates are chosen by on a world, as logged at validations."""
        chosen_by = {choice.by for (of, _), choice in self.choices.items() if of == world}
        by = chosen_by.pop() if len(chosen_by) == 1 else LOSS
        metric = self.metrics.get(world, {}).get(by.removesuffix(f"_{IMAGINED}"))
        if metric is None:
            return Quantity(LOSS, "", "validation loss (nats per observation)", number)
        quantity = Quantity.of(metric, IMAGINED)
        return dataclasses.replace(quantity, metric=by, title=f"validation {quantity.title}")

    def to_json(self) -> dict[str, Any]:
        """Plain values: the plan, what measures mean, one entry per system and world, one per cell."""
        measured = {name: metric for metrics in self.metrics.values() for name, metric in metrics.items()}
        systems, cells = [], []
        for world, system in itertools.product(self.plan.worlds, self.plan.systems):
            of: dict[str, Any] = {"world": world.name, "system": system.label}
            choice = self.choices.get((world.name, system.label))
            test = _nested(self.means.filter("chosen", **of), "seeds")
            systems.append(of | {"choice": dataclasses.asdict(choice) if choice else None, **test})
        for row in self.cells.iter_rows(named=True):
            of = {key: row[key] for key in KEY}
            cells.append(
                {"name": Cell(**of).name, **row}
                | {"validations": self.validations.filter(**of).drop(KEY).to_dicts()}
                | _nested(self.values.filter(**of), "episodes")
                | {"curves": _curves(self.curves.filter(**of))}
            )
        return {
            "plan": dataclasses.asdict(self.plan),
            "complete": self.complete,
            "cells_by_status": {status: self.count()[status] for status in Status},
            "measures": {n: {"title": m.title, "unit": m.unit, "better": m.better} for n, m in measured.items()},
            "systems": systems,
            "cells": cells,
        }

    def save(self) -> None:
        """Write `comparison.json` into the folder."""
        write_json(self.folder / JSON, self.to_json())


def read_results(folder: Path) -> Results:
    """The results in `folder`, as far as they are there.

    Raises `ValueError` where there is no comparison, and for cells that are done but whose records are missing, of
    another checkpoint than the last one, or of another test than the config says, with the command that makes them.
    """
    plan = load_plan(folder)
    rows = _Rows()
    for cell in plan.cells():
        rows.read(cell, CellFiles.of(folder, cell))
    metrics = {
        world: dict(sorted(found.items(), key=lambda item: not item[1].headline))
        for world, found in rows.metrics.items()
    }
    cells = pl.DataFrame(rows.cells, CELLS)
    validations = pl.DataFrame(rows.validations, VALIDATIONS)
    values = pl.DataFrame(rows.values, VALUES).filter(pl.col("mean").is_finite())
    choices = _choices(cells, validations, metrics)
    lrs = [(*of, choice.lr, True) for of, choice in choices.items()]
    chosen = pl.DataFrame(lrs, ["world", "system", "lr", "chosen"], orient="row", infer_schema_length=None)
    if chosen.is_empty():
        chosen = pl.DataFrame(schema={"world": pl.String, "system": pl.String, "lr": pl.Float64, "chosen": pl.Boolean})
    of = ["world", "system", "lr"]
    cells = cells.join(chosen, on=of, how="left", maintain_order="left").with_columns(pl.col("chosen").fill_null(False))
    return Results(
        folder=folder,
        plan=plan,
        cells=cells,
        validations=validations,
        values=values,
        curves=pl.DataFrame(rows.curves, CURVES),
        means=_means(cells, values, metrics),
        metrics=metrics,
        choices=choices,
        queries=rows.queries,
    )


@dataclasses.dataclass
class _Rows:
    """The rows of the tables while they are read."""

    cells: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    validations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    values: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    curves: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    metrics: dict[str, dict[str, Metric]] = dataclasses.field(default_factory=dict)
    queries: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    def read(self, cell: Cell, files: CellFiles) -> None:
        """Add what the files of a cell say."""
        of, record, status = dataclasses.asdict(cell), files.record(), files.status()
        path = files.run / "finished.json"
        finished = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        timing = list(read_lines(files.run / "timing.jsonl"))
        skipped = finished.get("skipped")
        self.cells.append({**of, "status": str(status), "error": record.get("error"), "skipped": skipped})

        minutes = {t["step"]: t["values"]["training_seconds"] / 60 for t in timing if "training_seconds" in t["values"]}
        for line in read_lines(files.run / "metrics.jsonl"):
            if line["split"] == "valid" and line["step"] in minutes:
                at = {"step": line["step"], "minutes": minutes[line["step"]]}
                values = {n: math.nan if v is None else v for n, v in line["values"].items()}  # null: not finite
                self.validations += [{**of, **at, "name": n, "value": v} for n, v in values.items()]

        train = [line["values"] for line in timing if line["split"] == "train"]
        seconds = sum(line["seconds"] for line in train)
        frames = sum(line["frames_per_second"] * line["seconds"] for line in train)
        costs = {
            **{cost.metric: record.get(cost.metric) for cost in COSTS},
            "steps": finished.get("step"),
            "minutes": finished["seconds"] / 60 if finished else None,
            "frames_per_second": frames / seconds if seconds else None,
        }
        self.values += [{**of, "metric": n, "predictor": COST, "mean": v} for n, v in costs.items() if v is not None]

        if status is not Status.DONE:
            return
        measured = _measured(files, finished["step"])
        self.queries[cell.world] = (measured.context, measured.horizon)
        self.metrics.setdefault(cell.world, {}).update(measured.metrics)
        for metric in measured.measures:
            for name in measured.predictors(metric):
                by = {**of, "metric": metric, "predictor": name}
                self.values.append(by | dataclasses.asdict(measured.estimate(metric, name)))
                curve = measured.curve(metric, name)
                self.curves += [{**by, "step": s, "value": v} for s, v in zip(curve.steps, curve.mean, strict=True)]
        if record.get("probed"):
            self.read_probes(cell, ProbeResults.load(files.run / PROBES))

    def read_probes(self, cell: Cell, found: ProbeResults) -> None:
        """Add what the first head of each probe told, by each row, and for how long it is kept."""
        of, metrics = dataclasses.asdict(cell), self.metrics[cell.world]
        horizons = found.horizons()
        for name in found.steps.main_measures():
            metrics[name] = found.steps.metrics[name]
            for row in found.steps.predictors(name):
                estimate = found.steps.estimate(name, row)
                self.values.append({**of, "metric": name, "predictor": row} | dataclasses.asdict(estimate))
            if name in horizons and not math.isnan(horizons[name].delay):
                kept = Metric(f"{name}_horizon", "steps", "higher", f"{metrics[name].title}: effective horizon")
                metrics[kept.name] = kept
                horizon = horizons[name]
                ends = {end: min(getattr(horizon, end), horizon.longest) for end in ("low", "high")}
                self.values.append(
                    {
                        **of,
                        "metric": kept.name,
                        "predictor": OBSERVED,
                        **ends,
                        "mean": min(horizon.delay, horizon.longest),
                        "episodes": found.steps.episodes,
                    }
                )


def _measured(files: CellFiles, steps: int) -> Measurements:
    """The records of a cell that is done; they must be there, of its last checkpoint, and as its config says."""
    run = files.run
    again = f"Evaluate it again: wmkit evaluate {shlex.quote(str(run))} --checkpoint last"
    if not (run / RECORDS).exists():
        older = (run / "evaluation.json").exists()
        why = f"its evaluation.json was written by an older wmkit, without {RECORDS}" if older else f"no {RECORDS}"
        raise ValueError(f"{run}: {why}. {again}")
    measured = Measurements.load(run)
    last = CheckpointFolder(run / "checkpoints").folder(steps).name
    if (checkpoint := measured.about.get("checkpoint", last)) != last:
        raise ValueError(
            f"{run}: its records are of checkpoint {checkpoint}, a comparison is of the last one, {last}. {again}"
        )
    config = load_config(files.config)
    context, horizon = context_and_horizon(config)
    by_step = [name for name in measured.measures if measured.has_steps(name)]
    counts = [measured.estimate(name, of).episodes for name in by_step for of in measured.predictors(name)]
    for what, found, expected in (
        ("context", measured.context, context),
        ("horizon", measured.horizon, horizon),
        ("episodes", max(counts, default=config.eval.episodes), config.eval.episodes),
        ("evaluation seed", measured.about.get("evaluation_seed", config.seed), config.seed),
    ):
        if found != expected:
            raise ValueError(f"{run}: its records are of {what} {found}, its config says {expected}. {again}")
    return measured


def _choices(
    cells: pl.DataFrame, validations: pl.DataFrame, metrics: Mapping[str, Mapping[str, Metric]]
) -> dict[tuple[str, str], Choice]:
    """The choice for each world and system with a cell that is done."""
    done = cells.filter(pl.col("status") == Status.DONE).select(*KEY)
    ends = validations.join(done, on=KEY, how="semi").filter(pl.col("step") == pl.col("step").max().over(*KEY))
    if ends.is_empty():
        return {}
    wide = cells.join(ends.pivot("name", index=KEY, values="value"), on=KEY, how="left")
    found = {}
    for (world, system), group in wide.partition_by("world", "system", as_dict=True).items():
        validated = [metric for metric in metrics.get(str(world), {}).values() if metric.validated]
        if choice := choose(group, validated):
            found[str(world), str(system)] = choice
    return found


def _means(cells: pl.DataFrame, values: pl.DataFrame, metrics: Mapping[str, Mapping[str, Metric]]) -> pl.DataFrame:
    """Mean and range over the seeds that are done, and which of the chosen means are the best of their world."""
    done = cells.filter(pl.col("status") == Status.DONE).select(*KEY, "chosen")
    of = ["world", "system", "lr", "chosen", "metric", "predictor"]
    mean = pl.col("mean")
    means = (
        values.join(done, on=KEY)
        .group_by(of, maintain_order=True)
        .agg(mean=mean.mean(), low=mean.min(), high=mean.max(), seeds=pl.len())
    )
    signs = [(w, n, 1.0 if m.better == "higher" else -1.0) for w, found in metrics.items() for n, m in found.items()]
    sign = pl.DataFrame(signs, {"world": pl.String, "metric": pl.String, "sign": pl.Float64}, orient="row")
    group = ["world", "metric", "predictor", "chosen"]
    score = mean * pl.col("sign")
    best = pl.col("chosen") & (score == score.max().over(group)) & (pl.len().over(group) > 1)
    return means.join(sign, on=["world", "metric"], how="left").with_columns(best=best.fill_null(False)).drop("sign")


def _nested(rows: pl.DataFrame, count: str) -> dict[str, Any]:
    """`test`, by metric and predictor: mean, low, high and how many there are. `costs`: the means by name."""
    test: dict[str, dict[str, Any]] = {}
    for row in rows.filter(pl.col("predictor") != COST).iter_rows(named=True):
        entry = {key: row[key] for key in ("mean", "low", "high", count)}
        test.setdefault(row["metric"], {})[row["predictor"]] = entry
    return {"test": test, "costs": dict(rows.filter(predictor=COST).select("metric", "mean").iter_rows())}


def _curves(rows: pl.DataFrame) -> dict[str, dict[str, list[float | None]]]:
    """By metric and predictor, to four digits, which is more than their intervals are worth; None where no value is."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for metric, name, value in rows.select("metric", "predictor", "value").iter_rows():
        shown = None if math.isnan(value) else float(f"{value:.4g}")
        found.setdefault(metric, {}).setdefault(name, []).append(shown)
    return found
