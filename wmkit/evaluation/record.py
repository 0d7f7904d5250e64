"""What was measured: one long table of a run, and what can be asked of it.

The table has the columns `measure`, `predictor`, `episode` (null: of all episodes), `step` (null: of a whole episode)
and `value`. Steps are counted from the end of the context: the query is 1..H, the context 1-C..0. A step that does not
count has no row.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
import polars as pl

from wmkit.evaluation.estimates import (
    RANGES,
    Bools,
    Estimate,
    Floats,
    Range,
    binomial,
    cut,
    label,
    normal,
    normal_curve,
)
from wmkit.evaluation.predictors import BEST_OF_N, in_order
from wmkit.files import write_json

RECORDS, SUMMARY = "records.parquet", "evaluation.json"
SCHEMA = {"measure": pl.String, "predictor": pl.String, "episode": pl.Int32, "step": pl.Int32, "value": pl.Float64}
CONSTANTS = ("run", "world", "seed", "checkpoint", "episodes_of")
"""Entries of `Measurements.about` that the file repeats in columns of their own, so that runs can be joined."""
_SAME = ("checkpoint", "episodes_of", "evaluation_seed")
"""Entries of `about` that must be alike for two evaluations to stand in one file."""


class Claim(Protocol):
    """Something that should be so of a measure; see `claims.py`."""

    def judge(self, measurements: Measurements, measure: str) -> Verdict | None:
        """Whether it holds; None where what it speaks of was not measured."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A claim, whether it holds, and the values behind it."""

    measure: str
    claim: str
    holds: bool
    values: str
    early: int | None = None
    """Steps that the model was trained for, where they are too few to blame it for a claim that does not hold."""

    def __str__(self) -> str:
        if self.holds or self.early is None:
            return f"{'yes' if self.holds else 'NO '}  {self.claim}: {self.values}"
        return f"?    {self.claim}: {self.values}; too few steps to judge ({self.early})"


@dataclasses.dataclass(frozen=True)
class Metric:
    """What the values of one measure in the table mean."""

    name: str
    """In the column `measure`: letters, digits and underscores."""
    unit: str
    """`share` is shown in per cent."""
    better: Literal["lower", "higher"]
    label: str = ""
    """For titles and axes; empty: the name with spaces."""
    ranges: tuple[Range, ...] | int = RANGES
    """The ranges of query steps that tables show, or the number of equal parts of the query."""
    binary: bool = False
    """Whether each episode has one value, 0 or 1: then intervals are binomial."""
    headline: bool = False
    """Whether comparisons show it first: at most one metric of a world should be so."""
    validated: bool = False
    """Whether it is measured at validations too, logged as `NAME_PREDICTOR`; comparisons choose by it."""
    caption: str = ""
    """What a reader of a table must know."""
    claims: tuple[Claim, ...] = dataclasses.field(default=(), compare=False)

    @property
    def title(self) -> str:
        """The label, or the name with spaces."""
        return self.label or self.name.replace("_", " ")

    def text(self, estimate: Estimate) -> str:
        """`97.3 % ± 0.4`, `97.3 % [95.1, 98.6]` of a binary metric, `60.21 ± 1.3`; `-` where there is nothing."""
        if not math.isfinite(estimate.mean):
            return "not finite" if estimate.episodes else "-"
        if self.binary:
            return f"{estimate.mean:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
        if self.unit == "share":
            return f"{100 * estimate.mean:.1f} % ± {100 * estimate.half_width:.1f}"
        return str(estimate)


class Curve(NamedTuple):
    """Means over episodes with their 95 % intervals, step by step: each (T,)."""

    steps: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Measurements:
    """The table of one run with what its measures mean."""

    frame: pl.DataFrame
    """Columns as in `SCHEMA`."""
    metrics: Mapping[str, Metric]
    """By name, in the order of tables."""
    context: int
    """Observed steps before the query."""
    horizon: int
    """Imagined steps."""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Plain values: run, world, seed, checkpoint, and what else a reader of the file should know."""
    verdicts: tuple[Verdict, ...] = ()
    schema: ClassVar[Mapping[str, Any]] = SCHEMA
    """Columns that `load` takes from a file, and their types."""

    def __repr__(self) -> str:
        """A small table: of each measure the predictors, with mean and interval over the query."""
        lines = [f"Measurements of {self.episodes} episodes, context {self.context} | query {self.horizon}"]
        for measure in self.measures:
            metric = self.metrics[measure]
            lines.append(f"  {measure}: {metric.title} ({metric.unit}, {metric.better} is better)")
            estimates = {name: self.estimate(measure, name) for name in self.predictors(measure)}
            lines += [f"    {name:<16} {metric.text(estimate)}" for name, estimate in estimates.items()]
        return "\n".join([*lines, *(f"  {verdict}" for verdict in self.verdicts)])

    @property
    def interval(self) -> str:
        """What the intervals of estimates are."""
        return "95 % over episodes: normal approximation, Wilson's where each episode is right or wrong"

    @property
    def measures(self) -> list[str]:
        """Names of the measures that have values."""
        present = set(self.frame["measure"].unique())
        return [name for name in self.metrics if name in present]

    @property
    def episodes(self) -> int:
        """The largest number of episodes of a measure."""
        return max((self._rows[measure] for measure in self.measures), default=0)

    def predictors(self, measure: str) -> list[str]:
        """The predictors that have values of `measure`, in the order of tables."""
        return in_order({predictor for name, predictor in self._parts if name == measure})

    def values(self, measure: str, predictor: str, steps: Range | None = None) -> Floats:
        """(N, T): episodes by steps first..last, None: the query; NaN where nothing counts.

        (N, 1) for a measure of whole episodes. Raises `KeyError` where the predictor has no value.
        """
        return self._values(measure, predictor, steps)[0]

    def estimate(self, measure: str, predictor: str, steps: Range | None = None) -> Estimate:
        """The mean of each episode over the steps, then mean and interval over episodes: they are independent, the
        steps of one are not. An episode without a value there is left out.
        """
        values, counts = self._values(measure, predictor, steps)
        rows = counts.any(1)
        means = values.sum(1, where=counts)[rows] / counts.sum(1)[rows]
        return binomial(means) if self.metrics[measure].binary else normal(means)

    def curve(self, measure: str, predictor: str) -> Curve:
        """Step by step over the query, NaN where no episode counts; no steps for a measure of whole episodes."""
        if not self.has_steps(measure):
            return Curve(*(np.zeros(0) for _ in range(4)))
        return Curve(np.arange(1.0, self.horizon + 1), *normal_curve(*self._values(measure, predictor)))

    def has_steps(self, measure: str) -> bool:
        """Whether there is a value for each step, and so a curve."""
        return not any(part["step"].null_count() for (name, _), part in self._parts.items() if name == measure)

    def columns(self, measure: str) -> dict[str, Range | None]:
        """The ranges of steps that a table of `measure` shows, by heading: the context where it is judged, parts of
        the query, and all of it.
        """
        if not self.has_steps(measure):
            return {"episode": None}
        ranges = self.metrics[measure].ranges
        if isinstance(ranges, int):
            ends = [round(part * self.horizon / ranges) for part in range(ranges + 1)]
            parts = [(a + 1, b) for a, b in itertools.pairwise(ends) if b > a]
        else:
            parts = [cut(steps, self.horizon) for steps in ranges]
        found: dict[str, Range | None] = {label(steps): steps for steps in [*parts, (1, self.horizon)]}
        parted = (part["step"].min() for (name, _), part in self._parts.items() if name == measure)
        first = min((int(step) for step in parted if isinstance(step, int)), default=1)
        return ({"context": (first, 0)} if first < 1 else {}) | found

    def judged(self) -> Measurements:
        """With the verdicts on every claim that can be judged."""
        found = [
            verdict
            for name in self.measures
            for claim in self.metrics[name].claims
            if (verdict := claim.judge(self, name)) is not None
        ]
        return dataclasses.replace(self, verdicts=tuple(found))

    def joined(self, other: Measurements) -> Measurements:
        """With the measures of `other` that these have not, their verdicts, and what it says about itself."""
        added = other.frame.filter(~pl.col("measure").is_in(list(self.metrics)))
        return dataclasses.replace(
            self,
            frame=pl.concat([self.frame, added]),
            metrics={
                **self.metrics,
                **{name: metric for name, metric in other.metrics.items() if name not in self.metrics},
            },
            verdicts=(*self.verdicts, *(one for one in other.verdicts if one.measure not in self.metrics)),
            about={**other.about, **self.about},
        )

    def with_older(self, folder: Path) -> Measurements:
        """With the other measures that `folder` has of the same checkpoint, episodes, lengths and seed.

        Those of another number of samples come without `best_of_n`.
        """
        try:
            older = Measurements.load(folder)
        except ValueError:
            return self
        lengths = (older.context, older.horizon) == (self.context, self.horizon)
        same = all(older.about.get(key) == self.about.get(key) for key in _SAME)
        if not (lengths and same):
            return self
        if older.about.get("samples") != self.about.get("samples"):
            older = dataclasses.replace(older, frame=older.frame.filter(pl.col("predictor") != BEST_OF_N))
        return self.joined(older)

    def replaces(self, folder: Path) -> str:
        """A sentence on the records in `folder` that would be gone or changed after `save`; empty where none are."""
        try:
            older = Measurements.load(folder)
        except ValueError:
            return ""
        lost = {
            measure
            for (measure, predictor), rows in older._parts.items()
            if not rows.equals(self._parts.get((measure, predictor), pl.DataFrame()))
        }
        if not lost:
            return ""
        before, now = (
            {"context": one.context, "horizon": one.horizon} | {key: one.about.get(key) for key in (*_SAME, "samples")}
            for one in (older, self)
        )
        changed = ", ".join(f"{key} {value}, now {now[key]}" for key, value in before.items() if value != now[key])
        names = ", ".join(name for name in older.measures if name in lost)
        return f"Records of an earlier evaluation are replaced{changed and f' ({changed})'}: {names}"

    def summary(self) -> dict[str, Any]:
        """Plain values: of each measure what it means and, per predictor, estimates by range and the curve."""
        entries = {}
        for name in self.measures:
            metric = dataclasses.asdict(dataclasses.replace(self.metrics[name], claims=()))
            del metric["claims"], metric["name"]
            entries[name] = metric | {
                "predictors": {predictor: self._entry(name, predictor) for predictor in self.predictors(name)}
            }
        return {
            **self.about,
            "context": self.context,
            "horizon": self.horizon,
            "episodes": self.episodes,
            "interval": self.interval,
            "measures": entries,
            "verdicts": [dataclasses.asdict(verdict) for verdict in self.verdicts],
        }

    def save(self, folder: Path) -> None:
        """Write `records.parquet` and its summary `evaluation.json` into `folder`."""
        constants = [pl.lit(self.about[name]).alias(name) for name in CONSTANTS if name in self.about]
        with (folder / RECORDS).open("wb") as file:  # by their names polars takes folders for patterns
            self.frame.with_columns(constants).write_parquet(file)
        write_json(folder / SUMMARY, self.summary())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote; no measure need be registered for it. Raises `ValueError` where there is nothing."""
        if not (folder / RECORDS).is_file() or not (folder / SUMMARY).is_file():
            old = (folder / SUMMARY).is_file()
            raise ValueError(
                f"{folder} has no {RECORDS}"
                + (f": its {SUMMARY} is of an older wmkit" if old else "")
                + f"; evaluate it with `wmkit evaluate {folder}`"
            )
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        entries = summary.pop("measures")
        verdicts = tuple(Verdict(**entry) for entry in summary.pop("verdicts"))
        context, horizon = summary.pop("context"), summary.pop("horizon")
        about = {key: value for key, value in summary.items() if key not in ("episodes", "interval")}
        with (folder / RECORDS).open("rb") as file:
            frame = pl.read_parquet(file).select(*cls.schema)
        metrics = {name: _metric(name, entry) for name, entry in entries.items()}
        return cls(frame, metrics, context, horizon, about, verdicts)

    @functools.cached_property
    def _parts(self) -> dict[tuple[str, str], pl.DataFrame]:
        parts = self.frame.partition_by("measure", "predictor", as_dict=True, include_key=False)
        return {(str(measure), str(predictor)): part for (measure, predictor), part in parts.items()}

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        """N of each measure: so many episodes have values of it."""
        last = self.frame.group_by("measure").agg(pl.col("episode").max().fill_null(0) + 1)
        return dict(last.iter_rows())

    def _values(self, measure: str, predictor: str, steps: Range | None = None) -> tuple[Floats, Bools]:
        """`values`, and which of them are in the table: a value that counts may be NaN itself."""
        part = self._parts[measure, predictor]
        row, value = part["episode"].fill_null(0).to_numpy(), part["value"].to_numpy()
        first, last = steps or (1, self.horizon)
        if part["step"].null_count():
            column, first, last = np.zeros(len(part), int), 0, 0
        else:
            column = part["step"].to_numpy() - first
        inside = (column >= 0) & (column <= last - first)
        out = np.full((self._rows[measure], last - first + 1), np.nan)  # (N, T)
        counts = np.zeros(out.shape, bool)
        out[row[inside], column[inside]] = value[inside]
        counts[row[inside], column[inside]] = True
        return out, counts

    def _entry(self, measure: str, predictor: str) -> dict[str, Any]:
        columns = self.columns(measure)
        curve = self.curve(measure, predictor)
        whole = _plain(self.estimate(measure, predictor))
        if not self.has_steps(measure):
            return whole
        ranges = {heading: _plain(self.estimate(measure, predictor, steps)) for heading, steps in columns.items()}
        numbers = {name: [_number(x) for x in getattr(curve, name).tolist()] for name in ("mean", "low", "high")}
        return whole | {"ranges": ranges, "curve": numbers}


def frame_of(
    measure: str, predictor: str, values: Floats, first: int | None, counts: Bools | None = None
) -> pl.DataFrame:
    """Rows of the table: values (N, T) of episodes from step `first` on; None: (N, 1) of whole episodes.

    counts: (N, T), where a value counts; None: everywhere.
    """
    row, column = np.nonzero(np.ones(values.shape, bool) if counts is None else counts)
    step = pl.lit(None) if first is None else pl.Series(column + first)
    frame = pl.DataFrame({"episode": row, "value": values[row, column]})
    frame = frame.with_columns(measure=pl.lit(measure), predictor=pl.lit(predictor), step=step)
    return frame.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def _metric(name: str, entry: dict[str, Any]) -> Metric:
    known = {field.name for field in dataclasses.fields(Metric)}
    values = {key: value for key, value in entry.items() if key in known}
    ranges = values["ranges"]
    return Metric(name, **values | {"ranges": ranges if isinstance(ranges, int) else tuple(map(tuple, ranges))})


def _plain(estimate: Estimate) -> dict[str, float | int | None]:
    return {key: _number(value) for key, value in dataclasses.asdict(estimate).items()}


def _number(value: float) -> float | None:
    """None for what JSON has no number for."""
    return value if math.isfinite(value) else None
