"""Figures: which worlds differ in a size alone, and what is drawn against it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from wmkit.comparison.cell import Cell, Status
from wmkit.comparison.figures import _loss, _over_time, size_curves, sizes
from wmkit.comparison.result import CellResult, Validation
from wmkit.comparison.summary import read_summary
from wmkit_envs import DistractingMemory

MakeFolder = Callable[..., Path]
WORLDS = tuple(DistractingMemory(width=width, tile=4) for width in (32, 8))
NAMES = tuple(world.name for world in WORLDS)


def test_worlds_that_differ_in_their_first_number_are_sizes_of_one() -> None:
    assert list(sizes(NAMES).items()) == [(NAMES[1], 8), (NAMES[0], 32)]


@pytest.mark.parametrize("other", ["distracting_memory_16", "multi_doors_keys_16_tile4", "ray_maze", "a/path/of.zarr"])
def test_worlds_that_differ_in_more_have_no_size(other: str) -> None:
    assert sizes((*NAMES, other)) == {}


def test_accuracy_is_drawn_against_the_size_of_the_world(make_folder: MakeFolder) -> None:
    summary = read_summary(make_folder(worlds=WORLDS, ended=16))
    drawn = size_curves(summary)
    assert "imagination accuracy against N in distracting_memory_N_tile4" in drawn
    assert drawn.count('class="line s0"') == drawn.count('class="line s1"') == 1
    marks = re.findall(r'class="tick middle"[^>]*>(\d+)<', drawn)
    assert marks == ["8", "32"]  # the sizes that were run, no round numbers between


def test_nothing_is_drawn_of_one_world_or_before_every_size_is_tested(make_folder: MakeFolder) -> None:
    assert size_curves(read_summary(make_folder())) == ""


def test_a_size_without_a_finished_run_leaves_the_figure_out(make_folder: MakeFolder) -> None:
    assert size_curves(read_summary(make_folder(worlds=WORLDS, ended=1))) == ""


def test_training_curves_begin_where_every_seed_has_been_validated() -> None:
    def seed(number: int, *points: tuple[float, float]) -> CellResult:
        validations = tuple(Validation(10, minutes, loss, None) for minutes, loss in points)
        return CellResult(Cell("s4", NAMES[0], 1e-3, number), Status.DONE, validations=validations)

    line = _over_time("s4", "s0", [seed(0, (1.0, 9.0), (3.0, 5.0)), seed(1, (2.0, 8.0), (4.0, 4.0))], _loss)
    assert line is not None
    assert (line.x, line.mean) == ([2.0, 3.0, 4.0], [7.5, 5.5, 4.5])  # the shorter one's last loss is held to the end
    assert (line.low, line.high) == ([7.0, 5.0, 4.0], [8.0, 6.0, 5.0])
