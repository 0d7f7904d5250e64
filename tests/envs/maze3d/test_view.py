"""Which walls were seen when."""

import math

import numpy as np

from wmkit_envs import generate
from wmkit_envs.maze3d.scene import OPEN, Pose, Scene
from wmkit_envs.maze3d.view import RAYS, first_seen


def looks(*degrees: float) -> np.ndarray:
    """From the middle of a room of 3x3 cells, in these directions."""
    walls = np.zeros((5, 5), np.int8)
    walls[1:-1, 1:-1] = OPEN
    scene = Scene(walls, np.zeros((5, 5), np.uint8), np.empty((0, 2)), Pose(1.5, 1.5, 0.0))
    return first_seen(scene, np.array([[1.5, 1.5, math.radians(angle)] for angle in degrees]))


def test_what_is_seen_again_was_first_seen_before() -> None:
    np.testing.assert_array_equal(looks(0, 180, 0), np.repeat([[0], [1], [0]], RAYS, axis=1))


def test_a_view_that_is_half_new_has_two_halves() -> None:
    """40 degrees further to the left, the right half of the view was the left one before."""
    first = looks(0, 40)
    assert (first[1, : RAYS // 2 - 3] == 1).all()
    assert (first[1, RAYS // 2 + 2 :] == 0).all()


def test_nothing_is_seen_before_it_is_seen() -> None:
    first = generate("ray_maze_9x9", seed=0, length=300)["first_seen"]
    assert first.shape == (300, RAYS)
    assert (first <= np.arange(300)[:, None]).all()
    assert (first[-50:] < 250).mean() > 0.3
    assert (first == np.arange(300)[:, None]).any()
