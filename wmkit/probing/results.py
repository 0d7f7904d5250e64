"""What probes found: the records of `wmkit.evaluation` with one column more, the seed of each probe's fit.

Intervals are over both: seeds and episodes are drawn anew with replacement, again and again, and the mean over them is
taken each time (`wmkit.evaluation.estimates.crossed`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import isotonic_regression

from wmkit.evaluation.estimates import Bools, Estimate, Floats, Range, crossed, drawn, percentiles
from wmkit.evaluation.predictors import CONSTANT, NO_MEMORY, OBSERVED, ORACLE, UNTRAINED, predictor
from wmkit.evaluation.record import SCHEMA, Curve, Measurements, Verdict
from wmkit.evaluation.tables import Table
from wmkit.files import write_json, write_text
from wmkit.probing.features import TOLD

AXES = ("steps", "delay", "imagined", "contexts", "reach", "swap", "reset")
"""What the column `step` counts: the episode's steps from 1 on; steps since the entry was last in view; steps imagined
after the context; frames seen before the last step of the episode is asked about; steps from the frame whose gradient
is taken to the features; steps imagined after states were swapped; those after a part of the state was emptied."""
IN_VIEW, SEEN, SELECTIVITY = "_in_view", "_seen", "_selectivity"
"""Measures of some entries, by the ends of their names, and the difference to the control task."""
CURVE_DRAWS = 400
NOT_ADMITTED = "not admitted"


@dataclasses.dataclass(frozen=True, eq=False)
class ProbeMeasurements(Measurements):
    """Scores of probes on one axis. A measure is `PROBE_HEAD`, of which a predictor is a row."""

    schema: ClassVar[Mapping[str, Any]] = SCHEMA | {"probe_seed": pl.Int32}

    @property
    def interval(self) -> str:
        models = self.about.get("models", 1)
        if models > 1:
            return f"95 % by bootstrap over {models} trained models and held-out episodes"
        seeds = "seeds of the probe and " if len(self.of_seeds) > 1 else ""
        return f"95 % by bootstrap over {seeds}held-out episodes, of one trained model"

    @functools.cached_property
    def of_seeds(self) -> list[Measurements]:
        """One by one: what the probes of each seed say."""
        parts = self.frame.partition_by("probe_seed", include_key=False)
        return [Measurements(part, self.metrics, self.context, self.horizon) for part in parts]

    def every(self, measure: str, row: str, steps: Range | None = None) -> tuple[Floats, Bools]:
        """Values (R, N, T) by seed, episode and step, 0 where nothing counts, and where something does (N, T).

        steps: None for all that there are, which begin at 0 on some axes.
        """
        there = self.steps_of(measure, row)
        steps = steps or (int(there[0]), int(there[-1]))
        found = [one._values(measure, row, steps) for one in self.of_seeds if row in one.predictors(measure)]
        most = max(len(values) for values, _ in found)
        padded = [np.pad(values, ((0, most - len(values)), (0, 0))) for values, _ in found]
        counts = [np.pad(counts, ((0, most - len(counts)), (0, 0))) for _, counts in found]
        return np.where(counts[0], np.stack(padded), 0.0), counts[0]

    def estimate(self, measure: str, predictor: str, steps: Range | None = None) -> Estimate:
        """The mean of each episode over the steps, its mean over seeds and episodes, and the interval over both."""
        values, counts = self.every(measure, predictor, steps)
        rows = counts.any(1)
        return crossed(values[:, rows].sum(2) / counts[rows].sum(1))

    def curve(self, measure: str, predictor: str) -> Curve:
        """Step by step, from the first that has a value on; of steps without one there is nothing."""
        steps = self.steps_of(measure, predictor)
        values, counts = self.every(measure, predictor, (int(steps[0]), int(steps[-1])))
        values, counts = values[..., steps - steps[0]], counts[:, steps - steps[0]]
        mean, resampled = _means(values, counts)
        return Curve(steps.astype(np.float64), mean, *percentiles(resampled))

    def difference(self, measure: str, ours: str, theirs: str) -> Estimate:
        """How much better `ours` is than `theirs`, on steps and episodes of both; a draw is the same for the two."""
        there = np.concatenate([self.steps_of(measure, row) for row in (ours, theirs)])
        reach = (int(there.min()), int(there.max()))
        (first, counts), (second, others) = (self.every(measure, row, reach) for row in (ours, theirs))
        both = counts & others
        rows = both.any(1)
        sign = 1 if self.metrics[measure].better == "higher" else -1
        return crossed(sign * ((first - second) * both)[:, rows].sum(2) / both[rows].sum(1))

    def steps_of(self, measure: str, row: str) -> npt.NDArray[np.int64]:
        """The steps that have a value, sorted."""
        return np.unique(self._parts[measure, row]["step"].to_numpy()).astype(np.int64)

    def judged(self) -> Self:
        """With verdicts. What is not decodable while it is in view is not admitted: nothing is said of its memory."""
        whole = dataclasses.replace(self, verdicts=super().judged().verdicts)
        closed = whole.refused
        return dataclasses.replace(whole, verdicts=tuple(one for one in whole.verdicts if one.measure not in closed))

    def main_measures(self) -> list[str]:
        """Of each probe that of its first head."""
        head = self.about["heads"][0]
        return [name for probe in self.about["probes"] if (name := f"{probe}_{head}") in self.measures]

    @property
    def refused(self) -> list[str]:
        """Measures of which nothing is said, because their probe cannot even tell what is in view: neither from the
        features of `observed` nor from those of the frame alone, if that row is there.
        """
        of_view = [one for one in self.verdicts if one.measure.endswith(IN_VIEW)]
        told = {one.measure for one in of_view if one.holds}
        return list(dict.fromkeys(one.measure.removesuffix(IN_VIEW) for one in of_view if one.measure not in told))


@dataclasses.dataclass(frozen=True)
class Above:
    """`ours` is better than `theirs`: the whole interval of the difference, whose draws are paired, is above 0."""

    ours: str
    theirs: str

    def judge(self, measurements: Measurements, measure: str) -> Verdict | None:
        """See `wmkit.evaluation.record.Claim`."""
        assert isinstance(measurements, ProbeMeasurements), "probes are judged by their own records"
        if not {self.ours, self.theirs} <= set(measurements.predictors(measure)):
            return None
        metric, by = measurements.metrics[measure], measurements.difference(measure, self.ours, self.theirs)
        ours, theirs = (metric.text(measurements.estimate(measure, row)) for row in (self.ours, self.theirs))
        names = f"{predictor(self.ours).label} is better than {predictor(self.theirs).label}"
        values = f"{ours} against {theirs}, better by {metric.text(by)}"
        return Verdict(measure, f"{metric.title}: {names}", bool(by.low > 0), values)


CLAIMS = (Above(OBSERVED, NO_MEMORY), Above(OBSERVED, UNTRAINED))
"""Of what a probe tells."""


def claims_in_view(bottom: str) -> tuple[Above, Above]:
    """By which a probe is admitted. bottom: the row without features."""
    return Above(OBSERVED, bottom), Above(NO_MEMORY, bottom)


def _means(values: Floats, counts: Bools) -> tuple[Floats, Floats]:
    """Over seeds and episodes, step by step, of values (R, N, T) and where they count (N, T): the mean (T,), and that
    of each draw (D, T), NaN where nothing counts.
    """
    of_seeds, of_rows = drawn(*values.shape[:2], CURVE_DRAWS)
    summed = np.stack([rows @ np.tensordot(one, values, 1) for one, rows in zip(of_seeds, of_rows, strict=True)])
    with np.errstate(invalid="ignore", divide="ignore"):
        return values.mean(0).sum(0) / counts.sum(0), summed / (of_rows @ counts)


@dataclasses.dataclass(frozen=True)
class Horizon:
    """The delay at which recall has fallen half way from what is in view to what a model without memory tells."""

    delay: float
    """In steps; infinite where it never falls so far, NaN where there is nothing to fall from."""
    low: float
    high: float
    longest: int
    """The longest delay that episodes have."""

    def __str__(self) -> str:
        """`23 [18, 31]`; `> 400 [350, > 400]`; `-` where there is nothing to lose."""
        if math.isnan(self.delay):
            return "-"
        told = [f"> {self.longest}" if math.isinf(x) else f"{x:.0f}" for x in (self.delay, self.low, self.high)]
        return f"{told[0]} [{told[1]}, {told[2]}]"


def effective_horizon(by_delay: ProbeMeasurements, measure: str, row: str = OBSERVED) -> Horizon:
    """Half of the skill that there is in view is lost at

        min { d > 0: skill(d) <= skill(0) / 2 },   skill(d) = (recall(d) - floor(d)) / (perfect - floor(d))

    where recall(0) is in view (the shortest delay, if nothing ever is), and perfect is 1 of a share and 0 of an error
    (a skill score, Murphy 1988). The floor is the constant answer in view and the row `no_memory` beyond it, or the
    constant answer if nobody measured that row: what the present frame tells of a thing that is out of view is no
    memory of it. Taken of the decreasing function that is closest to the skill (isotonic regression, each delay
    weighted by the number of episodes that have it; Barlow et al. 1972), with a straight line between the delays that
    were looked at. The interval is that of the bootstrap over seeds and episodes. There is no horizon where more than
    2.5 % of the draws have no skill in view: noise has none to lose.
    """
    steps = by_delay.steps_of(measure, row)
    perfect = 1.0 if by_delay.metrics[measure].better == "higher" else 0.0
    reach = (int(steps[0]), int(steps[-1]))
    (ours, counts), (constant, _) = by_delay.every(measure, row, reach), by_delay.every(measure, CONSTANT, reach)
    floor = by_delay.every(measure, NO_MEMORY, reach)[0] if NO_MEMORY in by_delay.predictors(measure) else constant
    floor = np.concatenate([constant.mean(0)[:, :1], floor.mean(0)[:, 1:]], axis=1)  # (N, D)
    some = counts.any(0)
    counts, steps = counts[:, some], np.arange(reach[0], reach[1] + 1)[some]
    told, bottom = (_means(x[..., some], counts) for x in (ours, np.broadcast_to(floor, ours.shape)))
    with np.errstate(invalid="ignore", divide="ignore"):  # of what the floor tells perfectly there is no skill
        mean, resampled = (
            (a - b) / np.where(b == perfect, np.nan, perfect - b) for a, b in zip(told, bottom, strict=True)
        )
    _, of_rows = drawn(*ours.shape[:2], CURVE_DRAWS)
    point = _half_way(steps, mean, counts.sum(0))
    again = np.array([_half_way(steps, *one) for one in zip(resampled, of_rows @ counts, strict=True)])
    if math.isnan(point) or np.isnan(again).mean() > 0.025:
        return Horizon(math.nan, math.nan, math.nan, int(steps[-1]))
    again = np.sort(again[~np.isnan(again)])  # some are infinite: `percentiles` would take means of those
    low, high = (float(again[round(share * (len(again) - 1))]) for share in (0.025, 0.975))
    return Horizon(point, low, high, int(steps[-1]))


def _half_way(steps: npt.NDArray[np.int64], more: Floats, weights: Floats) -> float:
    """Where the decreasing fit to `more` (D,) over `steps` falls to half of its first value; NaN if `more` begins at 0
    or below.
    """
    known = (weights > 0) & np.isfinite(more)
    steps, more = steps[known], more[known]
    if not len(more) or more[0] <= 0:
        return math.nan
    more = isotonic_regression(more, weights=weights[known], increasing=False).x
    below = np.flatnonzero(more <= more[0] / 2)
    if not len(below):
        return math.inf
    after = int(below[0])
    return float(np.interp(-more[0] / 2, -more[[after - 1, after]], steps[[after - 1, after]]))


@dataclasses.dataclass(frozen=True)
class ProbeResults:
    """All that was found of one model."""

    by_axis: Mapping[str, ProbeMeasurements]
    """Of `AXES` those that there are: see there. `steps` is always there."""
    notes: tuple[str, ...] = ()
    """What a reader must know: probes that do not apply, and why."""
    answers: Path | None = None
    """Where the answers about the first held-out episode are, `PROBE-...-HEAD-observed-SEED.npz`, for pictures."""

    @property
    def steps(self) -> ProbeMeasurements:
        """Scores step by step."""
        return self.by_axis["steps"]

    def horizons(self) -> dict[str, Horizon]:
        """The effective horizon of each measure that is admitted and has delays, by the row `observed`."""
        delay, closed = self.by_axis.get("delay"), self.steps.refused
        return (
            {}
            if delay is None
            else {
                measure: effective_horizon(delay, measure)
                for measure in delay.measures
                if measure not in closed and {OBSERVED, CONSTANT} <= set(delay.predictors(measure))
            }
        )

    def tables(self) -> Iterator[Table]:
        """One for each probe: a row for each row, mean and interval over all steps by each head; by the first of them
        also over the second half, of what was seen before and of what is in view.
        """
        horizons = self.horizons()
        for probe in dict.fromkeys(self.steps.about["probes"]):
            heads = [head for head in self.steps.about["heads"] if f"{probe}_{head}" in self.steps.measures]
            ends = ("", SEEN, IN_VIEW, SELECTIVITY)
            wanted = [f"{probe}_{head}{end}" for head in heads for end in ends]
            named = [name for name in wanted if name in self.steps.measures]
            if not named:
                continue
            main, half = f"{probe}_{heads[0]}", (self.steps.horizon // 2 + 1, self.steps.horizon)
            columns: dict[str, tuple[str, Range | None]] = {heads[0]: (main, None), "second half": (main, half)}
            ends_of = {"seen before": SEEN, "in view now": IN_VIEW, "above control": SELECTIVITY}
            columns |= {heading: (main + end, None) for heading, end in ends_of.items() if main + end in named}
            columns |= {head: (f"{probe}_{head}", None) for head in heads[1:]}
            rows = dict.fromkeys(row for name in named for row in self.steps.predictors(name))
            metric, oracle_steps = self.steps.metrics[named[0]], self.steps.about["plan"].get("oracle_steps")
            cells = [
                [
                    predictor(row).label + (f", {oracle_steps} steps" if row == ORACLE else ""),
                    *(
                        metric.text(self.steps.estimate(name, row, steps))
                        if row in self.steps.predictors(name)
                        else "-"
                        for name, steps in columns.values()
                    ),
                ]
                for row in rows
            ]
            told = "; ".join(f"{name} {horizons[name]} steps" for name in named if name in horizons)
            refused = [name for name in named if name in self.steps.refused]
            yield Table(
                f"{metric.label.rpartition(', ')[0]}: {metric.better} is better",
                ["row", *columns],
                cells,
                f"{self.steps.episodes} held-out episodes of {self.steps.horizon} steps, "
                f"{len(self.steps.of_seeds)} fits of the probe; unit: {metric.unit}; ± half of the interval, "
                f"{self.steps.interval}."
                + (f" Effective horizon: {told}." if told else "")
                + "".join(
                    f" {name} is {NOT_ADMITTED}: it cannot tell what is in view and says nothing about memory."
                    for name in refused
                ),
            )

    def save(self, folder: Path) -> None:
        """Write `records.parquet`, `evaluation.json` of each axis (`steps` in `folder` itself, others in folders of
        their names), `probes.md` and `probes.json`.
        """
        for axis, one in self.by_axis.items():
            place = folder if axis == "steps" else folder / axis
            place.mkdir(parents=True, exist_ok=True)
            one.save(place)
        write_json(
            folder / "probes.json",
            {
                "notes": self.notes,
                "not_admitted": self.steps.refused,
                "effective_horizons": {name: dataclasses.asdict(one) for name, one in self.horizons().items()},
            },
        )
        text = "\n".join(table.markdown() for table in self.tables())
        verdicts = "".join(f"- {verdict}\n" for verdict in self.steps.verdicts)
        write_text(folder / "probes.md", f"{text}\n{verdicts}" + "".join(f"- {note}\n" for note in self.notes))

    @classmethod
    def pooled(cls, models: Sequence[ProbeResults]) -> ProbeResults:
        """Models that were trained alike but for their seeds, probed about the same episodes, as one.

        The fits of each are averaged and stand as one seed of the probe, so that intervals are over models too.
        """
        by_axis = {}
        for axis, first in models[0].by_axis.items():
            keys = [name for name in first.frame.columns if name not in ("value", "probe_seed")]
            frames = [
                one.by_axis[axis]
                .frame.group_by(keys, maintain_order=True)
                .agg(pl.col("value").mean(), probe_seed=pl.lit(number, pl.Int32))
                .select(first.frame.columns)
                for number, one in enumerate(models)
            ]
            metrics = dict(first.metrics)
            for name in first.measures:
                bottom = TOLD if TOLD in first.predictors(name) else CONSTANT
                of_view = claims_in_view(bottom) if name.endswith(IN_VIEW) else ()
                claims = CLAIMS if name in first.main_measures() else of_view
                metrics[name] = dataclasses.replace(metrics[name], claims=claims)
            joined = dataclasses.replace(
                first, frame=pl.concat(frames), metrics=metrics, about={**first.about, "models": len(models)}
            )
            by_axis[axis] = joined.judged() if axis == "steps" else joined
        return cls(by_axis, models[0].notes)

    @classmethod
    def load(cls, folder: Path) -> ProbeResults:
        """What `save` wrote, without its notes; raises `ValueError` where there is nothing."""
        places = {axis: folder if axis == "steps" else folder / axis for axis in AXES}
        there = {axis: place for axis, place in places.items() if axis == "steps" or place.is_dir()}
        return cls({axis: ProbeMeasurements.load(place) for axis, place in there.items()})


def systems_tables(
    found: Mapping[str, ProbeResults], beside: Mapping[str, Mapping[str, str]] | None = None
) -> Iterator[Table]:
    """One for each probe, by its first head: of each system what `observed` tells, by how much that is better than
    `no_memory` and than `untrained`, and for how long it is kept. beside: further columns, of each system by heading.
    """
    first, costs = next(iter(found.values())).steps, beside or {}
    horizons = {system: results.horizons() for system, results in found.items()}
    for measure in first.main_measures():
        metric, rows = first.metrics[measure], []
        for system, results in found.items():
            steps = results.steps
            there = steps.predictors(measure)
            told = [metric.text(steps.estimate(measure, OBSERVED)) if OBSERVED in there else "-"]
            told += [
                metric.text(steps.difference(measure, OBSERVED, row)) if {OBSERVED, row} <= set(there) else "-"
                for row in (NO_MEMORY, UNTRAINED)
            ]
            told.append(NOT_ADMITTED if measure in steps.refused else str(horizons[system].get(measure, "-")))
            rows.append([system, *told, *costs.get(system, {}).values()])
        headings = next(iter(costs.values()), {})
        rows.append(["constant", metric.text(first.estimate(measure, CONSTANT)), *"-" * (3 + len(headings))])
        yield Table(
            f"{metric.title}: what is remembered, for how long" + (", at what cost" if costs else ""),
            ["", f"{metric.unit}, {metric.better} is better", "better than no memory by", "better than untrained by",
             "horizon", *headings],
            rows,
            "Horizon: steps since something was last in view after which half of the skill in view is lost, counted "
            f"beyond what the present frame tells; {NOT_ADMITTED}: the probe cannot tell what is in view. Intervals: "
            f"{first.interval}, per system.",
        )  # fmt: skip
