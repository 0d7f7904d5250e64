"""The walker's motion against the published numbers, walls, and the rule by which scripts steer."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit_envs.maze3d.kinematics import FORWARD, FORWARD_LEFT, LEFT, NOOP, NUM_ACTIONS, RADIUS, RIGHT, Walker, towards
from wmkit_envs.maze3d.scene import Pose

OPEN_FIELD = np.ones((20, 20), np.uint8)
MAZE = np.array([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 0]], np.uint8)


def headings(walker: Walker, actions: list[int]) -> list[float]:
    values = [walker.heading]
    for action in actions:
        walker.step(action)
        values.append(walker.heading)
    return [math.degrees(value) for value in np.diff(values)]


def test_forward_motion_follows_the_published_sequence() -> None:
    walker = Walker(OPEN_FIELD, Pose(5.0, 5.0, 0.0))
    xs = [walker.x]
    for _ in range(8):
        walker.step(FORWARD)
        xs.append(walker.x)
    np.testing.assert_allclose(np.diff(xs), [0.111, 0.219, 0.243, 0.248, 0.250, 0.250, 0.250, 0.250], atol=1e-3)
    assert walker.y == 5.0


@pytest.mark.parametrize(("action", "sign"), [(LEFT, 1), (RIGHT, -1)])
def test_turning_follows_the_published_sequence(action: int, sign: int) -> None:
    walker = Walker(OPEN_FIELD, Pose(5.0, 5.0, 0.0))
    turned = headings(walker, [action] * 4 + [NOOP] * 2)
    np.testing.assert_allclose(turned, [14.1 * sign, 18.4 * sign, 18.4 * sign, 18.4 * sign, 2.9 * sign, 0], atol=1e-6)


def test_forward_and_turn_do_both() -> None:
    walker = Walker(OPEN_FIELD, Pose(5.0, 5.0, 0.0))
    walker.step(FORWARD_LEFT)
    assert walker.x > 5.1
    assert walker.y > 5.0
    assert math.degrees(walker.heading) == pytest.approx(14.1)


def test_the_heading_stays_within_half_a_turn() -> None:
    walker = Walker(OPEN_FIELD, Pose(5.0, 5.0, 3.0))
    for _ in range(50):
        walker.step(LEFT)
        assert -math.pi <= walker.heading <= math.pi


def test_a_walker_slides_along_a_wall() -> None:
    walker = Walker(np.ones((1, 9), np.uint8), Pose(0.5, 0.5, math.radians(30)))
    for _ in range(12):
        walker.step(FORWARD)
    assert walker.y == pytest.approx(1 - RADIUS)
    assert walker.x > 2.0


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_wall_ahead_stops_the_walker(degrees: float) -> None:
    walker = Walker(np.ones((1, 1), np.uint8), Pose(0.5, 0.5, math.radians(degrees)))
    for _ in range(6):
        walker.step(FORWARD)
    assert math.hypot(walker.x - 0.5, walker.y - 0.5) == pytest.approx(0.5 - RADIUS)


@given(
    actions=st.lists(st.integers(0, NUM_ACTIONS - 1), max_size=60),
    cell=st.sampled_from(np.argwhere(MAZE).tolist()),
    heading=st.floats(-math.pi, math.pi),
)
def test_no_sequence_of_actions_enters_a_wall(actions: list[int], cell: list[int], heading: float) -> None:
    walker = Walker(MAZE, Pose(cell[1] + 0.5, cell[0] + 0.5, heading))
    for action in actions:
        walker.step(action)
        for x in (walker.x - RADIUS, walker.x + RADIUS):
            for y in (walker.y - RADIUS, walker.y + RADIUS):
                assert 0 <= x < MAZE.shape[1]
                assert 0 <= y < MAZE.shape[0]
                assert MAZE[math.floor(y), math.floor(x)]


def test_a_waypoint_is_faced_within_ten_degrees_before_walking() -> None:
    assert towards(Pose(0.5, 0.5, math.radians(9)), 2.5, 0.5) == FORWARD
    assert towards(Pose(0.5, 0.5, math.radians(11)), 2.5, 0.5) != FORWARD
    assert towards(Pose(0.5, 0.5, math.radians(-11)), 2.5, 0.5) != towards(Pose(0.5, 0.5, math.radians(11)), 2.5, 0.5)
