"""Plots are well-formed SVG of a page: named, in its colours, with text as text, the same for the same data."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit.comparison.plots import COLOURS, TEXT_LINE, WIDTH, Dots, Line, Look, apart, dot_plot, line_plot

S4, GRU = Look.of_system(0), Look.of_system(1)


def lines(*values: float, label: str = "<a & b>", **options: object) -> str:
    line = Line(label, S4, range(len(values)), values, values, values)
    options = {"x_label": "x", "y_label": "y", "y_range": (1.0, 10.0), "format_y": "{:g}".format} | options
    return line_plot("x < y", [line, Line("without", Look("soft", "--"), [0, 1], [2.0, 2.0])], **options)


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
    dots = dot_plot("t", [Dots("a", S4, (0.5,), 0.5)], x_label="x", x_range=(0, 1), format_x=str, format_mean=str)
    first, second = (set(re.findall(r' id="([^"]+)"', svg)) for svg in (lines(1.0, 2.0), dots))
    assert first
    assert second
    assert not first & second


def test_nothing_in_a_plot_comes_from_elsewhere() -> None:
    svg = lines(1.0, 2.0)
    for outside in ("url(", "http", "@import", "font-family", "<style"):
        assert outside not in svg


@pytest.mark.parametrize("values", [(5.0,), (-50.0, 500.0)])
@pytest.mark.parametrize("log_y", [False, True])
def test_a_single_point_and_points_beyond_the_frame_stay_within_it(values: tuple[float, ...], log_y: bool) -> None:
    svg = lines(*values, log_y=log_y)
    heights = [float(y) for path in re.findall(r' d="([^"]*)"', svg) for y in re.findall(r"[ML] \S+ (-?[\d.]+)", path)]
    assert all(-360 <= height <= 360 for height in heights)  # bands count from below


def test_a_logarithmic_axis_marks_few_values_and_a_linear_one_round_values() -> None:
    narrow, wide = lines(2.0, 3.0, log_y=True), lines(2.0, 3.0, log_y=True, y_range=(0.01, 1e6))
    assert {"1", "2", "5", "10"} <= set(texts(narrow))
    assert "0.1" in texts(wide)
    assert not {"2", "0.2", "0.5"} & set(texts(wide)) - {"2"}
    assert set(texts(lines(2.0, 3.0, x_ticks=[0, 1]))) >= {"0", "1"}


def test_whole_numbers_of_steps_have_whole_ticks() -> None:
    assert not {text for text in texts(lines(1.0, 2.0)) if text and "." in text}


def test_a_dot_plot_has_a_row_per_system_and_its_mean_in_words() -> None:
    rows = [Dots("a", S4, (0.5, 0.75), 0.625), Dots("b", GRU, (0.25,), 0.25)]
    svg = dot_plot("t", rows, x_label="x", x_range=(0.0, 1.0), format_x=str, format_mean="{:.1%}".format, reference=0.5)
    assert {"a", "b", "62.5%", "25.0%", "x"} <= set(texts(svg))
    dots = [element for element in parsed(svg).iter("use") if "var(--card)" in (element.get("style") or "")]
    assert len(dots) == 3


def test_long_names_have_room_beside_the_plot() -> None:
    name = "transformer_xl_320_cosine"
    svg = lines(1.0, 2.0, label=name)
    (at,) = [float(element.get("x", "nan")) for element in parsed(svg).iter("text") if element.text == name]
    assert at + 8 * len(name) <= WIDTH
    rows = [Dots(name, S4, (0.5,), 0.5)]
    svg = dot_plot("t", rows, x_label="x", x_range=(0.0, 1.0), format_x=str, format_mean=str)
    (end,) = [float(element.get("x", "nan")) for element in parsed(svg).iter("text") if element.text == name]
    assert end >= 8 * len(name)  # the text ends there


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_labels_keep_their_order_and_do_not_overlap_where_there_is_room(heights: list[float]) -> None:
    placed = apart(sorted(heights), 0.0, 320.0, TEXT_LINE)
    gaps = [b - a for a, b in itertools.pairwise(placed)]
    assert all(gap >= TEXT_LINE - 1e-6 for gap in gaps)
    assert placed[-1] <= 320.0 + 1e-6
