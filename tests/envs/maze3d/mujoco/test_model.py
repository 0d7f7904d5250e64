"""The model that is made of a scene: how cells are covered, and that it is what dm_control makes."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wmkit_envs import Rooms
from wmkit_envs.maze3d.mujoco.model import odd_rectangles


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_odd_rectangles_cover_each_cell_once(cells: np.ndarray) -> None:
    covered = np.zeros(cells.shape, np.int64)
    for row, column, down, along in odd_rectangles(cells):
        assert down % 2 == along % 2 == 1
        covered[row : row + down, column : column + along] += 1
    np.testing.assert_array_equal(covered, cells)


def test_rectangles_are_as_large_as_odd_sides_allow() -> None:
    assert odd_rectangles(np.ones((3, 5), np.bool_)) == [(0, 0, 3, 5)]
    assert odd_rectangles(np.ones((2, 4), np.bool_)) == [(0, 0, 1, 3), (0, 3, 1, 1), (1, 0, 1, 3), (1, 3, 1, 1)]


def test_without_mujoco_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("wmkit_envs.maze3d.mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for world in (Rooms(physics="mujoco"), Rooms(renderer="mujoco")):
        with pytest.raises(ValueError, match=r"pip install 'wmkit\[mujoco\]'.*renderer=raycast physics=ball"):
            world.generate(seed=0, length=2)
