"""What a number in a table is a mean of: a range of query steps, and episodes, with the 95 % interval over them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Range = tuple[int, int]
"""First and last query step, both included, counted from 1; in what is still to be `cut`, in ranges of metrics and in
claims, also from the query's end, of which the last step is -1."""

NEAR, MIDDLE, FAR = (1, 5), (6, 20), (50, 50)
RANGES: tuple[Range, ...] = (NEAR, MIDDLE, FAR)
"""Those that tables show of a measure without ranges of its own."""
END: Range = (-10, -1)
"""The last steps of the query, however long it is."""
VIDEO_RANGES: tuple[Range, ...] = ((1, 5), (6, 20), (21, 100), (101, 300), (301, 964))
"""Those of the papers on video, whose queries are longer."""
NORMAL_95 = 1.96
"""Half the width of a 95 % interval of the standard normal."""
DRAWS = 2000
"""Of a bootstrap."""
GROUPS = 50
"""Of rows that a jackknife leaves out together, where there are more rows."""


def cut(steps: Range, horizon: int) -> Range:
    """The range counted from 1 and cut to 1..horizon; one that lies wholly beyond becomes the last step."""
    first, last = steps
    if not (1 <= first <= last or first <= last <= -1):
        raise ValueError(
            f"A range of query steps is (first, last) with 1 <= first <= last, or first <= last <= -1, got {steps}"
        )
    if first < 0:
        return max(1, horizon + 1 + first), max(1, horizon + 1 + last)
    return min(first, horizon), min(last, horizon)


def label(steps: Range) -> str:
    """`6-20`, or `50` for a single step."""
    first, last = steps
    return str(first) if first == last else f"{first}-{last}"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over episodes with its 95 % interval; all NaN where there is no episode."""

    mean: float
    low: float
    high: float
    episodes: int

    @property
    def half_width(self) -> float:
        """Half of high - low; the interval of a share need not be symmetric."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        """`60.21 ± 1.3`."""
        return f"{self.mean:.4g} ± {self.half_width:.2g}"


def normal(means: Floats) -> Estimate:
    """From one value of each episode (N,): mean and mean -+ 1.96 s / sqrt(N); no width for a single episode."""
    if len(means) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(means.mean())
    with np.errstate(invalid="ignore"):  # a mean that is not finite is said where it is shown
        half = NORMAL_95 * float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    return Estimate(mean, mean - half, mean + half, len(means))


def binomial(outcomes: Floats) -> Estimate:
    """From one outcome of each episode (N,), 0 or 1: the share of ones with the interval of Wilson (1927).

    It keeps inside [0, 1] and keeps its coverage near both ends. Raises `ValueError` for other outcomes.
    """
    from scipy.stats import binomtest  # half a second to import

    if len(outcomes) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if not np.isin(outcomes, (0.0, 1.0)).all():
        raise ValueError("A binomial interval needs outcomes that are 0 or 1")
    hits = int(outcomes.sum())
    interval = binomtest(hits, len(outcomes)).proportion_ci(0.95, method="wilson")
    return Estimate(hits / len(outcomes), float(interval.low), float(interval.high), len(outcomes))


@functools.cache
def drawn(seeds: int, episodes: int, number: int) -> tuple[Floats, Floats]:
    """Weights (D, R) of seeds and (D, N) of episodes, of sum 1 in each of D draws with replacement; always the same."""
    rng = np.random.default_rng(0)

    def weights(count: int) -> Floats:
        chosen = rng.integers(count, size=(number, count)) + count * np.arange(number)[:, None]
        return np.bincount(chosen.ravel(), minlength=number * count).reshape(number, count) / count

    return weights(seeds), weights(episodes)


def crossed(means: Floats) -> Estimate:
    """From one value of each seed and episode (R, N): the mean, with the interval of a bootstrap (Efron 1979) that
    draws anew seeds, and episodes that all seeds share.
    """
    if means.shape[1] == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    of_seeds, of_rows = drawn(*means.shape, DRAWS)
    low, high = percentiles(((of_seeds @ means) * of_rows).sum(1))
    return Estimate(float(means.mean()), float(low), float(high), means.shape[1])


def jackknife(score: Callable[[npt.NDArray[np.intp]], float], number: int) -> Floats:
    """v_i = s + (N - 1) (mean over j of s_-j - s_-i), where s_-i is the score of all rows but i -> (N,)

    of a score that is of N rows together: their mean is the score s itself, and their standard error that of the
    jackknife (Tukey 1958), so that `normal` of them is an estimate like any other. Drawing rows anew instead, with
    replacement, would raise a distance between sets: what is drawn twice narrows them. More than `GROUPS` rows are left
    out in so many groups, as a score may take long: s_-i is that of all groups but i's, which has m rows, and
    (N - m) / sqrt(m) stands for N - 1, so that the standard error stays that of single rows.

    score: of the rows with those numbers. Fewer than 3 rows have no interval: each gets the score.
    """
    every = np.arange(number)
    if number < 3:
        return np.full(number, score(every))
    groups = np.array_split(every, min(number, GROUPS))
    sizes = np.array([len(group) for group in groups])  # (G,)
    without = np.repeat([score(np.delete(every, group)) for group in groups], sizes)  # (N,)
    rows = np.repeat(sizes, sizes)
    shifts = (number - rows) / np.sqrt(rows) * (without.mean() - without)
    few = np.sqrt((number - 1) / number * len(groups) / (len(groups) - 1))  # 1 for groups of one
    return score(every) + few * (shifts - shifts.mean())


def percentiles(resampled: Floats) -> tuple[Floats, Floats]:
    """The 95 % interval of draws (D, ...) by their percentiles, lows and highs (...): of those that are not NaN, NaN
    where there are none.
    """
    some = ~np.isnan(resampled).all(0)
    low, high = np.nanquantile(np.where(some, resampled, 0.0), (0.025, 0.975), axis=0)
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def normal_curve(values: Floats, counts: Bools) -> tuple[Floats, Floats, Floats]:
    """`normal` of every column of values (N, T), of the rows that count (N, T): means, lows, highs (T,)."""
    number = counts.sum(0)  # (T,)
    known = np.where(number, number, np.nan)
    means = values.sum(0, where=counts) / known
    with np.errstate(invalid="ignore"):
        squares = np.square(values - means).sum(0, where=counts)
    half = NORMAL_95 * np.sqrt(squares / np.maximum(known - 1, 1) / known)
    return means, means - half, means + half
