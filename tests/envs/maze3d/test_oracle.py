"""The oracle's small map: the way in it, where it is, how it is turned."""

import math

import numpy as np
import pytest

from wmkit_envs.maze3d.oracle import FREE, HERE, WALL, WAY, draw_maps, shortest_way
from wmkit_envs.maze3d.scene import OPEN, Pose, Scene
from wmkit_envs.maze3d.simulation import Trajectory

LAYOUT = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


def test_of_equal_ways_the_one_to_the_left_comes_first() -> None:
    assert shortest_way(LAYOUT, (1, 0), (1, 2)) == [(1, 0), (0, 0), (0, 1), (0, 2), (1, 2)]
    assert shortest_way(LAYOUT, (2, 0), (2, 2)) == [(2, 0), (2, 1), (2, 2)]


def test_there_is_no_way_into_a_wall() -> None:
    assert shortest_way(LAYOUT, (0, 0), (1, 1)) == []


@pytest.mark.parametrize(("heading", "turns"), [(math.pi / 2, 0), (0.0, 1), (math.pi, -1)])
def test_the_map_is_centred_on_the_walker_and_turned_with_it(heading: float, turns: int) -> None:
    walls = np.zeros((5, 5), np.int8)
    walls[1:-1, 1:-1] = np.where(LAYOUT, OPEN, 0)
    scene = Scene(walls, np.zeros((5, 5), np.uint8), np.array([[2.5, 2.5]]), Pose(1.5, 0.5, heading))
    poses = np.array([[1.5, 0.5, heading, 0, 0]])
    images = np.full((1, 16, 16, 3), 100, np.uint8)
    draw_maps(images, scene, Trajectory(np.array([-1]), poses, np.zeros(1, np.float32), np.array([0])))
    assert (images[0, 6:] == 100).all()
    assert (images[0, :, :-6] == 100).all()
    card = np.rot90((images[0, :6, -6:] - 50) * 2, -turns)  # as if north were ahead
    # the walker, at the bottom of the maze, is in the middle; what lies to the south is outside
    expected = [(FREE, WALL, WAY), (FREE, HERE, WAY), (WALL, WALL, WALL)]
    found = [
        [tuple(int(v > 100) * 255 for v in card[2 * row + 1, 2 * column]) for column in range(3)] for row in range(3)
    ]
    assert found == [list(row) for row in expected]
