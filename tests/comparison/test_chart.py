"""Charts are well-formed pictures that stay within their frame."""

import itertools
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit.comparison.chart import (
    HEIGHT,
    LETTER,
    LINE_OF_TEXT,
    WIDTH,
    Dots,
    LogScale,
    Scale,
    Series,
    _apart,
    dot_chart,
    line_chart,
)


def chart(*values: float) -> ElementTree.Element:
    line = Series("<a & b>", "s0", range(len(values)), values, values, values)
    text = line_chart("x < y", [line], x_label="x", y_label="y", y_range=(0.0, 10.0), format_y=str)
    return ElementTree.fromstring(text)


def test_a_line_chart_names_its_lines_and_says_what_it_shows() -> None:
    svg = chart(1.0, 2.0, 3.0)
    texts = [element.text for element in svg.iter("text")]
    assert "<a & b>" in texts
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == svg.findtext("title") == "x < y"


@pytest.mark.parametrize("values", [(5.0,), (-50.0, 500.0)])
def test_a_single_point_and_points_beyond_the_frame_stay_within_it(values: tuple[float, ...]) -> None:
    for line in chart(*values).iter("polyline"):
        heights = [float(point.split(",")[1]) for point in (line.get("points") or "").split()]
        assert all(0 <= height <= HEIGHT for height in heights)


def test_a_dot_chart_has_a_dot_per_seed() -> None:
    rows = [Dots("a", "s0", (0.5, 0.75), 0.625, "62 %")]
    svg = ElementTree.fromstring(dot_chart("t", rows, x_label="x", x_range=(0.0, 1.0), format_x=str, reference=0.5))
    assert len(list(svg.iter("circle"))) == 2


def test_long_names_have_room_beside_the_chart() -> None:
    name = "transformer_xl_320_cosine"
    rows = [Dots(name, "s0", (0.5,), 0.5, "50 %")]
    dots = ElementTree.fromstring(dot_chart("t", rows, x_label="x", x_range=(0.0, 1.0), format_x=str))
    assert starts(dots, name)[0] >= LETTER * len(name)  # the text ends there
    line = Series(name, "s0", (0, 1), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0))
    text = line_chart("t", [line], x_label="x", y_label="y", y_range=(0.0, 10.0), format_y=str)
    assert starts(ElementTree.fromstring(text), name)[0] + LETTER * len(name) <= WIDTH


def starts(svg: ElementTree.Element, text: str) -> list[float]:
    """Where texts that say `text` start, or end for those aligned to their end."""
    return [float(element.get("x", "nan")) for element in svg.iter("text") if element.text == text]


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_labels_keep_their_order_and_do_not_overlap_where_there_is_room(heights: list[float]) -> None:
    placed = _apart(sorted(heights), 0.0, 320.0)
    gaps = [b - a for a, b in itertools.pairwise(placed)]
    assert all(gap >= LINE_OF_TEXT - 1e-6 for gap in gaps)
    assert placed[-1] <= 320.0 + 1e-6


@given(st.floats(1e-6, 1e6), st.floats(1.3, 1e6))
def test_logarithmic_ticks_are_few_and_within_and_ratios_are_distances(low: float, ratio: float) -> None:
    scale = LogScale(low, low * ratio, 0.0, 1.0)
    assert len(scale.ticks()) <= 14
    assert all(low <= tick <= low * ratio for tick in scale.ticks())
    assert scale(low * ratio**0.5) == pytest.approx(0.5)
    assert scale(low) == 0.0


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_within(low: float, span: float) -> None:
    ticks = Scale(low, low + span, 0.0, 1.0).ticks()
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
