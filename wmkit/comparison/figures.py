"""The figures of a report: accuracy by seed and by size, curves against training time, error against the horizon."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from wmkit.comparison.chart import Dots, Series, dot_chart, line_chart
from wmkit.comparison.result import DOOR_MAJORITY, FIRST_MAP, CellResult, Validation
from wmkit.comparison.summary import QUALITY, Column, Summary, percent, spread

BASELINES = ("mean image", "copy last context frame", FIRST_MAP)
Value = Callable[[Validation], float | None]


def headline(summary: Summary, world: str) -> str:
    """Imagination accuracy of each system, or doors right, or its generation error: the first that there is."""
    column = next((column for column in QUALITY if column in summary.columns(world, QUALITY)), None)
    rows = []
    for style, system in _systems(summary):
        cells = summary.chosen(world, system)
        values = [value for cell in cells if column and (value := column.value(cell)) is not None]
        if column and values and (mean := spread(cells, column)):
            rows.append(Dots(system, style, values, mean.mean, column.text(mean.mean)))
    if column is None or not rows:
        return ""
    by_share = column.text is percent
    top = max(value for row in rows for value in row.values)
    low = min(0.4, *(value for row in rows for value in row.values)) if by_share else 0.0
    title = f"{column.heading} on {world}: " + ", ".join(f"{row.label} {row.text}" for row in rows)
    return dot_chart(
        title,
        rows,
        x_label=f"{column.heading} on test episodes, one dot per seed, bar: mean",
        x_range=(math.floor(low * 10) / 10, 1.0) if by_share else (0.0, 1.1 * top or 1.0),
        format_x=_whole_percent if by_share else _plain,
        reference=_majority(summary, world),
    )


def size_curves(summary: Summary) -> str:
    """What `headline` shows, against the number in which the worlds' names differ; empty where they differ in more."""
    numbers = sizes(list(summary.plan.worlds))
    column = next((c for c in QUALITY if all(c in summary.columns(world, QUALITY) for world in numbers)), None)
    if len(numbers) < 2 or column is None:
        return ""
    series = [
        line for style, system in _systems(summary) if (line := _by_size(summary, numbers, column, style, system))
    ]
    if not series:
        return ""
    by_share = column.text is percent
    top = max(value for line in series for value in line.high)
    if column is QUALITY[0] and (chance := _majority_by_size(summary, numbers)):
        series.append(chance)
    template = re.sub(r"\d+", "N", min(numbers), count=1)
    return line_chart(
        f"{column.heading} against N in {template}",
        series,
        x_label=f"N in {template}",
        y_label=column.heading,
        y_range=(min(0.4, *(v for line in series for v in line.low)), 1.0) if by_share else (0.0, 1.05 * top or 1.0),
        format_y=_whole_percent if by_share else _plain,
        x_marked=sorted({x for line in series for x in line.x}),
    )


def sizes(worlds: Sequence[str]) -> dict[str, int]:
    """Worlds by the first number in their names, smallest first; empty unless they differ in that number alone."""
    parts = {world: re.split(r"(\d+)", world, maxsplit=1) for world in worlds}
    alike = len({(part[0], part[-1]) for part in parts.values() if len(part) == 3}) == 1
    found = {world: int(part[1]) for world, part in parts.items() if len(part) == 3}
    return dict(sorted(found.items(), key=lambda item: item[1])) if alike and len(found) == len(parts) else {}


def learning_curves(summary: Summary, world: str) -> str:
    """Held-out accuracy of imagined rewards against minutes of training; the loss where no reward is predicted."""
    cells = [cell for _, system in _systems(summary) for cell in summary.chosen(world, system)]
    by_accuracy = bool(cells) and all(v.accuracy is not None for cell in cells for v in cell.validations)
    what = "validation accuracy, imagination" if by_accuracy else "validation loss (nats per observation)"
    series = [
        line
        for style, system in _systems(summary)
        if (line := _over_time(system, style, summary.chosen(world, system), _accuracy if by_accuracy else _loss))
    ]
    if not series:
        return ""
    highest = max(value for line in series for value in line.high)
    lowest = min(value for line in series for value in line.low)
    y_range = (math.floor(min(0.4, lowest) * 10) / 10, 1.0) if by_accuracy else (min(0.0, lowest), 1.05 * highest)
    return line_chart(
        f"{what} against training time on {world}",
        series,
        x_label="minutes of training",
        y_label=what,
        y_range=y_range,
        format_y=_whole_percent if by_accuracy else _plain,
    )


def error_curves(summary: Summary, world: str) -> str:
    """Generation error at each step after the context: mean over seeds, band over them, baselines dashed."""
    series = [
        line
        for style, system in _systems(summary)
        if (line := _by_step(system, style, [c.curve("generation") for c in summary.chosen(world, system)]))
    ]
    if not series:
        return ""
    some = next(cell for _, system in _systems(summary) for cell in summary.chosen(world, system))
    series += [line for name in BASELINES if (line := _by_step(name, "reference", [some.curve(name)]))]
    values = [value for line in series for value in (*line.low, *line.high) if value > 0]
    return line_chart(
        f"generation error against steps after the context on {world}",
        series,
        x_label="steps after the context",
        y_label="squared error per frame",
        y_range=(0.9 * min(values, default=0.1), 1.1 * max(values, default=1.0)),
        format_y=_plain,
        log_y=True,
    )


def door_curves(summary: Summary, world: str) -> str:
    """Doors in view that are rightly open or shut, at each step that shows one; empty in worlds without doors."""
    cells = {system: summary.chosen(world, system) for _, system in _systems(summary)}
    some = next((cell for row in cells.values() for cell in row if cell.door_curve("generation")), None)
    if some is None:
        return ""
    rows = [(system, style, [c.door_curve("generation") for c in cells[system]]) for style, system in _systems(summary)]
    floors = {"first map": FIRST_MAP, "majority": DOOR_MAJORITY}
    rows += [(label, "reference", [some.door_curve(name)]) for label, name in floors.items()]
    return line_chart(
        f"doors rightly open or shut against steps after the context on {world}",
        [line for row in rows if (line := _by_step(*row))],
        x_label="steps after the context",
        y_label="doors in view, rightly open or shut",
        y_range=(0.0, 1.0),
        format_y=_whole_percent,
    )


def _systems(summary: Summary) -> list[tuple[str, str]]:
    """Colour class and label of each system."""
    return [(f"s{index % 8}", system.label) for index, system in enumerate(summary.plan.systems)]


def _over_time(label: str, style: str, cells: Sequence[CellResult], value: Value) -> Series | None:
    """Seeds validate at different times: all are read off at the times of all, where every one has a value."""
    curves = []
    for cell in cells:
        points = [(v.minutes, y) for v in cell.validations if (y := value(v)) is not None]
        if points:
            curves.append(tuple(np.array(axis) for axis in zip(*points, strict=True)))
    if not curves:
        return None
    begin, end = max(x[0] for x, _ in curves), max(x[-1] for x, _ in curves)
    times = np.unique(np.concatenate([x for x, _ in curves]))
    times = times[(times >= begin) & (times <= end)]
    # Runs end within a step of each other: the last value of the shorter one is held for that long.
    return _series(label, style, times, np.stack([np.interp(times, x, y) for x, y in curves]))


def _by_size(summary: Summary, numbers: dict[str, int], column: Column, style: str, system: str) -> Series | None:
    """Mean over seeds and their range in each world that the system is tested in."""
    found = {size: spread(summary.chosen(world, system), column) for world, size in numbers.items()}
    known = {size: value for size, value in found.items() if value}
    if not known:
        return None
    rows = zip(*((size, value.mean, value.low, value.high) for size, value in known.items()), strict=True)
    return Series(system, style, *(list(row) for row in rows))


def _majority(summary: Summary, world: str) -> float | None:
    """What the more frequent answer gets on the test episodes of a world, where rewards are predicted."""
    found = (result.accuracy("majority") for result in summary.results if result.cell.world == world)
    return next((value for value in found if value is not None), None)


def _majority_by_size(summary: Summary, numbers: dict[str, int]) -> Series | None:
    found = {size: value for world, size in numbers.items() if (value := _majority(summary, world)) is not None}
    return (
        _series("same answer", "reference", np.array(list(found)), np.array([list(found.values())])) if found else None
    )


def _by_step(label: str, style: str, curves: Sequence[Sequence[float | None]]) -> Series | None:
    """Steps at which some curve has nothing are left out."""
    if not any(curves):
        return None
    values = np.array([curve for curve in curves if curve], np.float64)
    there = ~np.isnan(values).any(0)
    return _series(label, style, np.arange(1, values.shape[1] + 1)[there], values[:, there]) if there.any() else None


def _series(label: str, style: str, x: np.ndarray, values: np.ndarray) -> Series:
    """Mean and range over the first axis of values (seeds, x)."""
    rows = (x, values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    return Series(label, style, *(row.tolist() for row in rows))


def _accuracy(validation: Validation) -> float | None:
    return validation.accuracy


def _loss(validation: Validation) -> float | None:
    return validation.loss


def _whole_percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _plain(value: float) -> str:
    return f"{value:,.6g}"
