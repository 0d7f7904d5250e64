"""Figures: which worlds differ in a size alone, and what is drawn against it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from wmkit.comparison.figures import size_curves, sizes
from wmkit.comparison.summary import read_summary

MakeFolder = Callable[..., Path]
WORLDS = ("distracting_memory_32_4px", "distracting_memory_8_4px")


def test_worlds_that_differ_in_their_first_number_are_sizes_of_one() -> None:
    assert list(sizes(WORLDS).items()) == [("distracting_memory_8_4px", 8), ("distracting_memory_32_4px", 32)]


@pytest.mark.parametrize("other", ["distracting_memory_16", "multi_doors_keys_16_4px", "ray_maze", "a/path/of.zarr"])
def test_worlds_that_differ_in_more_have_no_size(other: str) -> None:
    assert sizes((*WORLDS, other)) == {}


def test_accuracy_is_drawn_against_the_size_of_the_world(make_folder: MakeFolder) -> None:
    summary = read_summary(make_folder(worlds=WORLDS, ended=16))
    drawn = size_curves(summary)
    assert "imagination accuracy against N in distracting_memory_N_4px" in drawn
    assert drawn.count('class="line s0"') == drawn.count('class="line s1"') == 1
    marks = re.findall(r'class="tick middle"[^>]*>(\d+)<', drawn)
    assert marks == ["8", "32"]  # the sizes that were run, no round numbers between


def test_nothing_is_drawn_of_one_world_or_before_every_size_is_tested(make_folder: MakeFolder) -> None:
    assert size_curves(read_summary(make_folder())) == ""


def test_a_size_without_a_finished_run_leaves_the_figure_out(make_folder: MakeFolder) -> None:
    assert size_curves(read_summary(make_folder(worlds=WORLDS, ended=1))) == ""
