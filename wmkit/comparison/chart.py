"""Line and dot charts as inline SVG: no script, no file, colours by class so that a page's style decides them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 168, 14, 46
LINE_OF_TEXT = 17
"""Least distance between two labels at the ends of lines."""
ROW = 38
"""Height of one row of a dot chart."""
LETTER = 8
"""Width of a letter of a name, about."""

Format = Callable[[float], str]


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: mean y at each x, with a band from `low` to `high`."""

    label: str
    style: str
    """Class of the line: `s0`, `s1`, ... for systems, `reference` for baselines."""
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Dots:
    """One row of a dot chart: a value per seed, their mean marked."""

    label: str
    style: str
    values: Sequence[float]
    mean: float
    text: str
    """The figure as text, at the row's end."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """A linear map from values low..high to pixels start..stop."""

    low: float
    high: float
    start: float
    stop: float
    marked: Sequence[float] = ()
    """Values to mark instead of round ones."""

    def __call__(self, value: float) -> float:
        """The pixel of `value`."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """The marked values, or about five round ones within low..high."""
        if self.marked:
            return [*self.marked]
        step = _round_step((self.high - self.low) / 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


class LogScale(Scale):
    """A map of positive values that is linear in their logarithm."""

    def __call__(self, value: float) -> float:
        """The pixel of `value`."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Powers of ten within low..high; twice and five times them too where that is not too many."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1, 2, 5) if len(powers) <= 4 else (1,)
        values = (factor * 10.0**power for power in powers for factor in factors)
        return [value for value in values if self.low <= value <= self.high]


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float],
    format_y: Format,
    format_x: Format = "{:g}".format,
    x_marked: Sequence[float] = (),
    log_y: bool = False,
) -> str:
    """Lines with bands, each named at its right end. `title` is read out by screen readers; x_marked: see `Scale`.

    log_y: equal ratios of y are equally far apart; y_range is positive then.
    """
    xs = [x for line in series for x in line.x]
    right = WIDTH - _room(RIGHT, (line.label for line in series))
    x = Scale(min(xs), max(max(xs), min(xs) + 1e-9), LEFT, right, x_marked)
    y = (LogScale if log_y else Scale)(*y_range, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, x_label, y_label, format_x, format_y)]
    parts += [_band(line, x, y) for line in series if line.style != "reference"]
    parts += [_line(line, x, y) for line in series]
    parts.append(_labels(series, x, y))
    return _svg(title, HEIGHT, parts)


def dot_chart(
    title: str,
    rows: Sequence[Dots],
    *,
    x_label: str,
    x_range: tuple[float, float],
    format_x: Format,
    reference: float | None = None,
) -> str:
    """One row per system, one dot per seed, a bar at their mean; a dashed line at `reference`."""
    height = TOP + ROW * len(rows) + BOTTOM
    x = Scale(*x_range, _room(LEFT + 70, (row.label for row in rows)), WIDTH - RIGHT)
    bottom = height - BOTTOM
    parts = [_x_axis(x, bottom, x_label, format_x)]
    if reference is not None:
        at = f"{x(_clipped(x, reference)):.1f}"
        parts.append(f'<line class="line reference" x1="{at}" x2="{at}" y1="{TOP - 8}" y2="{bottom}"/>')
    for number, row in enumerate(rows):
        middle = TOP + ROW * (number + 0.5)
        parts.append(_dots(row, x, middle))
    return _svg(title, height, parts)


def _room(least: float, names: Iterable[str]) -> float:
    """Width beside a chart for its names: for all of the longest one, up to a third of the picture."""
    return min(max(least, LETTER * max(map(len, names)) + 24), WIDTH / 3)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _axes(x: Scale, y: Scale, x_label: str, y_label: str, format_x: Format, format_y: Format) -> str:
    lines = [_x_axis(x, HEIGHT - BOTTOM, x_label, format_x)]
    for value in y.ticks():
        at = f"{y(value):.1f}"
        lines.append(f'<line class="grid" x1="{x.start}" x2="{x.stop}" y1="{at}" y2="{at}"/>')
        lines.append(_text(x.start - 8, y(value) + 4, format_y(value), "tick end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    lines.append(
        f'<text class="axis middle" transform="translate(14 {middle:.1f}) rotate(-90)">{escape(y_label)}</text>'
    )
    return "".join(lines)


def _x_axis(x: Scale, bottom: float, label: str, format_x: Format) -> str:
    lines = [f'<line class="frame" x1="{x.start}" x2="{x.stop}" y1="{bottom}" y2="{bottom}"/>']
    for value in x.ticks():
        at = f"{x(value):.1f}"
        lines.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{bottom}"/>')
        lines.append(_text(x(value), bottom + 17, format_x(value), "tick middle"))
    lines.append(_text((x.start + x.stop) / 2, bottom + 38, label, "axis middle"))
    return "".join(lines)


def _band(line: Series, x: Scale, y: Scale) -> str:
    there = [_point(x, y, a, b) for a, b in zip(line.x, line.high, strict=True)]
    back = [_point(x, y, a, b) for a, b in zip(line.x, line.low, strict=True)]
    return f'<polygon class="band {line.style}" points="{" ".join([*there, *reversed(back)])}"/>'


def _line(line: Series, x: Scale, y: Scale) -> str:
    points = [_point(x, y, a, b) for a, b in zip(line.x, line.mean, strict=True)]
    dots = ""
    if len(points) <= 60 and line.style != "reference":
        centres = (point.split(",") for point in points)
        dots = "".join(f'<circle class="{line.style}" cx="{a}" cy="{b}" r="2.4"/>' for a, b in centres)
    return f'<polyline class="line {line.style}" points="{" ".join(points)}"/>{dots}'


def _labels(series: Sequence[Series], x: Scale, y: Scale) -> str:
    """Names beside the ends of the lines, moved apart where they would overlap, with a leader to each end."""
    lines = sorted(series, key=lambda line: y(_clipped(y, line.mean[-1])))
    heights = _apart([y(_clipped(y, line.mean[-1])) for line in lines], TOP + 6, HEIGHT - BOTTOM)
    parts = []
    for line, height in zip(lines, heights, strict=True):
        start, end = x(line.x[-1]) + 3, x.stop + 14
        leader = f"{start:.1f},{y(_clipped(y, line.mean[-1])):.1f} {end:.1f},{height:.1f}"
        parts.append(f'<polyline class="leader {line.style}" points="{leader}"/>')
        parts.append(_text(end + 5, height + 4, line.label, f"name {line.style}"))
    return "".join(parts)


def _dots(row: Dots, x: Scale, middle: float) -> str:
    low, high = (x(value) for value in (min(row.values), max(row.values)))
    parts = [
        _text(x.start - 12, middle + 4, row.label, "name end"),
        f'<line class="track" x1="{x.start}" x2="{x.stop}" y1="{middle}" y2="{middle}"/>',
        f'<line class="range {row.style}" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        *(f'<circle class="seed {row.style}" cx="{x(v):.1f}" cy="{middle}" r="5"/>' for v in row.values),
        f'<line class="mean {row.style}" x1="{x(row.mean):.1f}" x2="{x(row.mean):.1f}" y1="{middle - 11}" '
        f'y2="{middle + 11}"/>',
        _text(x.stop + 16, middle + 4, row.text, "name"),
    ]
    return "".join(parts)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _point(x: Scale, y: Scale, a: float, b: float) -> str:
    return f"{x(a):.1f},{y(_clipped(y, b)):.1f}"


def _clipped(scale: Scale, value: float) -> float:
    return min(max(value, scale.low), scale.high)


def _apart(heights: list[float], top: float, bottom: float) -> list[float]:
    """Sorted heights, at least a line of text apart where there is room, within top..bottom."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + LINE_OF_TEXT if placed else top))
    overshoot = max(0.0, placed[-1] - bottom) if placed else 0.0
    for number in reversed(range(len(placed))):
        limit = bottom if number == len(placed) - 1 else placed[number + 1] - LINE_OF_TEXT
        placed[number] = min(placed[number], limit) if overshoot else placed[number]
    return placed


def _round_step(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
