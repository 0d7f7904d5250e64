"""Plots are well-formed SVG of a page: named, in its colours, with text as text, the same for the same data."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit.comparison.plots import (
    HEIGHT,
    LETTER,
    TEXT_LINE,
    WIDTH,
    Dots,
    Line,
    apart,
    dot_plot,
    line_plot,
)
from wmkit.evaluation.plots.look import COLOURS, Look

S4, GRU = Look.of_system(0), Look.of_system(1)


def lines(*values: float, label: str = "<a & b>", xs: Sequence[float] = (), **options: Any) -> str:
    line = Line(label, S4, xs or range(len(values)), values, values, values)
    options = {"x_label": "x", "y_label": "y", "unit": "grey levels"} | options
    floor = Line("without", Look("soft", "--"), xs or [0, 1], [0.5, 0.5])
    return line_plot("x < y", [line, floor], **options)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.sub("xlink:", "", svg))


def texts(svg: str) -> list[str | None]:
    return [element.text for element in parsed(svg).iter("text")]


def test_a_line_plot_names_its_lines_and_says_what_it_shows() -> None:
    svg = lines(1.0, 2.0, 3.0)
    assert {"<a & b>", "without", "x", "y"} <= set(texts(svg))
    assert parsed(svg).get("role") == "img"
    assert parsed(svg).get("aria-label") == parsed(svg).findtext("title") == "x < y"


def test_colours_are_variables_of_the_page_and_each_system_has_one() -> None:
    svg = lines(1.0, 2.0)
    assert "var(--s0)" in svg
    assert "var(--s1)" not in svg
    assert not re.search(r"#[0-9a-fA-F]{3}", re.sub(r'href="#\w+"', "", svg))  # no colour of matplotlib's own is left
    assert set(re.findall(r"var\(--(\w+)\)", svg)) <= set(COLOURS)


def test_eight_systems_differ_in_colour_and_in_dash() -> None:
    looks = [Look.of_system(number) for number in range(8)]
    assert len({look.colour for look in looks}) == len({look.dash for look in looks}) == 8
    assert Look.of_system(8) == looks[0]


def test_the_same_data_give_the_same_bytes_and_two_plots_share_no_id() -> None:
    assert lines(1.0, 2.0) == lines(1.0, 2.0)
    dots = dot_plot("t", [Dots("a", S4, (0.5,))], x_label="x", unit="share", text=str, dashed=None)
    first, second = (set(re.findall(r' id="([^"]+)"', svg)) for svg in (lines(1.0, 2.0), dots))
    assert first
    assert second
    assert not first & second


def test_nothing_in_a_plot_comes_from_elsewhere() -> None:
    svg = lines(1.0, 2.0)
    for outside in ("url(", "http", "@import", "font-family", "<style"):
        assert outside not in svg


@pytest.mark.parametrize("values", [(5.0,), (-50.0, 500.0), (0.0, 0.0), (-1.0,)])
@pytest.mark.parametrize("log", [False, True])
def test_a_single_point_and_values_that_have_no_logarithm_stay_within_the_frame(
    values: tuple[float, ...], log: bool
) -> None:
    svg = lines(*values, log=log)
    heights = [float(y) for path in re.findall(r' d="([^"]*)"', svg) for y in re.findall(r"[ML] \S+ (-?[\d.]+)", path)]
    assert heights
    assert all(-HEIGHT <= height <= HEIGHT for height in heights)  # bands count from below


def test_a_logarithmic_axis_marks_few_values_and_a_linear_one_round_values() -> None:
    narrow, wide = texts(lines(2.0, 9.0, log=True)), texts(lines(0.01, 1e6, log=True))
    assert {"2", "5"} <= set(narrow)
    assert {"0.1", "10", "1,000"} <= set(wide)
    assert not {"2", "0.2", "20", "0.5"} & set(wide)
    assert {"0", "2", "4"} <= set(texts(lines(2.0, 4.0)))


def test_shares_reach_to_all_and_sizes_are_marked_themselves() -> None:
    assert {"40 %", "60 %", "100 %"} <= set(texts(lines(0.5, 0.75, unit="share")))
    assert {"3", "17"} <= set(texts(lines(2.0, 3.0, x_ticks=[3, 17], xs=[3, 17])))


def test_whole_numbers_of_steps_have_whole_ticks() -> None:
    assert not {text for text in texts(lines(10.0, 20.0)) if text and "." in text}


def test_a_dot_plot_has_a_row_per_system_and_its_mean_in_words() -> None:
    rows = [Dots("a", S4, (0.5, 0.75)), Dots("b", GRU, (0.25,))]
    svg = dot_plot("t", rows, x_label="x", unit="share", text="{:.1%}".format, dashed=0.5)
    assert {"a", "b", "62.5%", "25.0%", "x", "20 %", "100 %"} <= set(texts(svg))
    dots = [element for element in parsed(svg).iter("use") if "var(--card)" in (element.get("style") or "")]
    assert len(dots) == 3


def test_long_names_have_room_beside_the_plot() -> None:
    name = "transformer_xl_320_cosine"
    svg = lines(1.0, 2.0, label=name)
    (at,) = [float(element.get("x", "nan")) for element in parsed(svg).iter("text") if element.text == name]
    assert at + LETTER * len(name) <= WIDTH
    svg = dot_plot("t", [Dots(name, S4, (0.5,))], x_label="x", unit="share", text=str, dashed=None)
    (end,) = [float(element.get("x", "nan")) for element in parsed(svg).iter("text") if element.text == name]
    assert end >= LETTER * len(name)  # the text ends there


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_labels_keep_their_order_and_do_not_overlap_where_there_is_room(heights: list[float]) -> None:
    placed = apart(sorted(heights), 0.0, 320.0, TEXT_LINE)
    gaps = [b - a for a, b in itertools.pairwise(placed)]
    assert all(gap >= TEXT_LINE - 1e-6 for gap in gaps)
    assert placed[-1] <= 320.0 + 1e-6
