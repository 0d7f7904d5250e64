"""What a model should be able to show, as claims that a measure makes and an evaluation judges."""

from __future__ import annotations

import dataclasses
import math

from wmkit.evaluation.estimates import Range, cut, label
from wmkit.evaluation.predictors import predictor
from wmkit.evaluation.record import Measurements, Metric, Verdict

FEW_STEPS = 200
"""Optimiser steps below which a claim that does not hold is no verdict: no recipe claims anything before 1,000."""


@dataclasses.dataclass(frozen=True)
class Beats:
    """`ours` is better than `theirs` over some query steps."""

    ours: str
    theirs: str
    steps: Range | None = None
    """None: the whole query, or the whole episode."""
    surely: bool = False
    """Ask that the whole interval of `ours` is better than the mean of `theirs`."""

    def judge(self, measurements: Measurements, measure: str) -> Verdict | None:
        """See `Claim`."""
        if not {self.ours, self.theirs} <= set(measurements.predictors(measure)):
            return None
        metric, steps = measurements.metrics[measure], self.steps and cut(self.steps, measurements.horizon)
        ours, theirs = (measurements.estimate(measure, name, steps) for name in (self.ours, self.theirs))
        if self.surely and ours.episodes < 2:  # one episode has no interval
            return None
        if metric.better == "lower":
            holds = (ours.high if self.surely else ours.mean) < theirs.mean
        else:
            holds = (ours.low if self.surely else ours.mean) > theirs.mean
        names = f"{predictor(self.ours).label} is better than {predictor(self.theirs).label}"
        where = f" at {label(steps)}" if steps else ""
        values = f"{_number(metric, ours.mean)} against {_number(metric, theirs.mean)}"
        return Verdict(measure, f"{metric.title}: {names}{where}", holds, values)


@dataclasses.dataclass(frozen=True)
class ShareOf:
    """`ours` is at most a share of `theirs`, in every column of the table; for metrics of which lower is better."""

    ours: str
    theirs: str
    most: float

    def judge(self, measurements: Measurements, measure: str) -> Verdict | None:
        """See `Claim`. Raises `ValueError` for a metric of which higher is better."""
        if not {self.ours, self.theirs} <= set(measurements.predictors(measure)):
            return None
        metric = measurements.metrics[measure]
        if metric.better == "higher":
            raise ValueError(
                f"ShareOf expects a metric of which lower is better, of {metric.name} higher is: claim Beats or Reaches"
            )
        shares = {
            heading: _ratio(
                measurements.estimate(measure, self.ours, steps).mean,
                measurements.estimate(measure, self.theirs, steps).mean,
            )
            for heading, steps in measurements.columns(measure).items()
        }
        names = f"{predictor(self.ours).label} is at most {self.most:.0%} of {predictor(self.theirs).label}"
        values = ", ".join(f"{share:.1%} ({heading})" for heading, share in shares.items())
        holds = all(share <= self.most for share in shares.values())
        return Verdict(measure, f"{metric.title}: {names}", holds, values)


@dataclasses.dataclass(frozen=True)
class Costs:
    """`ours`, a handicapped `theirs`, is worse than it by a factor: whatever the handicap withholds is used.

    Worse is `factor` times as much, and of a metric of which higher is better one `factor`th.
    """

    ours: str
    theirs: str
    factor: float
    steps: Range

    def judge(self, measurements: Measurements, measure: str) -> Verdict | None:
        """See `Claim`."""
        if not {self.ours, self.theirs} <= set(measurements.predictors(measure)):
            return None
        steps = cut(self.steps, measurements.horizon)
        ours, theirs = (measurements.estimate(measure, name, steps).mean for name in (self.ours, self.theirs))
        metric = measurements.metrics[measure]
        first, second = predictor(self.ours).label, predictor(self.theirs).label
        if metric.better == "lower":
            holds, more = ours >= self.factor * theirs, _ratio(ours, theirs) - 1
            names = f"{first} costs at least {self.factor - 1:.0%} at {label(steps)}"
        else:
            holds, more = theirs >= self.factor * ours, _ratio(theirs, ours) - 1
            names = f"{second} is at least {self.factor - 1:.0%} above {first} at {label(steps)}"
        return Verdict(measure, f"{metric.title}: {names}", holds, f"{more:+.1%}")


@dataclasses.dataclass(frozen=True)
class Reaches:
    """`ours` reaches a value over the whole query, or the whole episode."""

    ours: str
    value: float

    def judge(self, measurements: Measurements, measure: str) -> Verdict | None:
        """See `Claim`."""
        if self.ours not in measurements.predictors(measure):
            return None
        metric, estimate = measurements.metrics[measure], measurements.estimate(measure, self.ours)
        least = metric.better == "higher"
        holds = estimate.mean >= self.value if least else estimate.mean <= self.value
        claim = f"{predictor(self.ours).label} reaches {_number(metric, self.value)}"
        return Verdict(measure, f"{metric.title}: {claim}", holds, metric.text(estimate))


def _ratio(ours: float, theirs: float) -> float:
    """Infinite where `theirs` is 0, whatever `ours` is."""
    return ours / theirs if theirs else math.inf


def _number(metric: Metric, value: float) -> str:
    return f"{value:.1%}" if metric.unit == "share" else f"{value:.4g}"
