"""The walker's motion against Memory Maze's, walls, and the rule by which scripts steer."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit_envs.maze3d.kinematics import (
    FORWARD,
    FORWARD_LEFT,
    LEFT,
    NOOP,
    NUM_ACTIONS,
    RIGHT,
    WALL_GAP,
    Walker,
    towards,
)  # fmt: skip
from wmkit_envs.maze3d.scene import OPEN, Pose, Scene

RECORDED = Path(__file__).parents[2] / "references" / "memory_maze_motion.json"
OPEN_FIELD = np.ones((20, 20), np.uint8)
MAZE = np.array([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 0]], np.uint8)


def walker_in(layout: np.ndarray, x: float, y: float, heading: float) -> Walker:
    walls = np.zeros((layout.shape[0] + 2, layout.shape[1] + 2), np.int8)
    walls[1:-1, 1:-1][layout == 1] = OPEN
    return Walker(Scene(walls, np.zeros_like(walls, np.uint8), np.empty((0, 2)), Pose(x, y, heading)))


def poses(walker: Walker, actions: list[int]) -> np.ndarray:
    """The pose before and after each action, (steps + 1, 5)."""
    seen = [walker.pose]
    for action in actions:
        walker.step(action)
        seen.append(walker.pose)
    return np.array(seen)


@pytest.mark.parametrize("episode", json.loads(RECORDED.read_text()), ids=lambda episode: episode["name"])
def test_the_walker_goes_where_memory_mazes_goes(episode: dict) -> None:
    """Recorded in dm_control's MuJoCo: 60 random actions each in mazes of 9x9, walls included.

    At the start the ball floats at a height of 0 up to rounding; these are episodes in which it begins in contact.
    """
    walker = walker_in(np.array(episode["layout"]), *episode["start"])
    seen = poses(walker, episode["actions"])[1:, :3]
    there = np.array(episode["poses"])
    assert np.hypot(*(seen - there)[:, :2].T).max() < 2e-3
    assert np.abs(np.remainder(seen - there + math.pi, 2 * math.pi) - math.pi)[:, 2].max() < math.radians(0.5)


def test_forward_motion_follows_the_published_sequence() -> None:
    seen = poses(walker_in(OPEN_FIELD, 5.0, 5.0, 0.0), [FORWARD] * 8)
    np.testing.assert_allclose(np.diff(seen[:, 0]), [0.111, 0.219, 0.243, 0.248, 0.250, 0.250, 0.250, 0.250], atol=1e-3)
    np.testing.assert_allclose(seen[:, 1], 5.0, atol=1e-9)


@pytest.mark.parametrize(("action", "sign"), [(LEFT, 1), (RIGHT, -1)])
def test_turning_follows_the_published_sequence(action: int, sign: int) -> None:
    turned = np.degrees(np.diff(poses(walker_in(OPEN_FIELD, 5.0, 5.0, 0.0), [action] * 4 + [NOOP] * 2)[:, 2]))
    np.testing.assert_allclose(turned, np.array([14.1, 18.4, 18.4, 18.4, 2.9, 0]) * sign, atol=0.1)


def test_forward_and_turn_from_rest_go_less_far_than_forward_alone() -> None:
    seen = poses(walker_in(OPEN_FIELD, 5.0, 5.0, 0.0), [FORWARD_LEFT] * 3)
    np.testing.assert_allclose(np.hypot(*np.diff(seen[:, :2], axis=0).T), [0.0942, 0.1927, 0.2287], atol=3e-4)


def test_the_heading_stays_within_half_a_turn() -> None:
    assert np.abs(poses(walker_in(OPEN_FIELD, 5.0, 5.0, 3.0), [LEFT] * 50)[:, 2]).max() <= math.pi


def test_the_way_of_a_step_leads_from_pose_to_pose() -> None:
    walker = walker_in(OPEN_FIELD, 5.0, 5.0, 1.0)
    for action in (FORWARD, FORWARD_LEFT):
        before = walker.pose
        way = walker.step(action)
        assert way.shape == (50, 2)
        np.testing.assert_allclose(way[-1], walker.pose[:2])
        assert np.hypot(*np.diff(np.vstack([before[:2], way]), axis=0).T).max() < 0.25 / 40


def test_a_walker_sticks_to_a_wall_that_it_presses_against() -> None:
    """Along the wall at 30 degrees, after 9 steps: 0.011 cells a step in Memory Maze, where sliding would be 0.217."""
    seen = poses(walker_in(np.ones((1, 9), np.uint8), 0.5, 0.5, math.radians(30)), [FORWARD] * 12)
    assert 0 < seen[-1, 0] - seen[-2, 0] < 0.03


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_wall_ahead_stops_the_walker_at_a_tenth_of_a_cell(degrees: float) -> None:
    seen = poses(walker_in(np.ones((1, 1), np.uint8), 0.5, 0.5, math.radians(degrees)), [FORWARD] * 6)
    assert math.hypot(seen[-1, 0] - 0.5, seen[-1, 1] - 0.5) == pytest.approx(0.5 - WALL_GAP, abs=4e-3)


@given(
    actions=st.lists(st.integers(0, NUM_ACTIONS - 1), max_size=60),
    cell=st.sampled_from(np.argwhere(MAZE).tolist()),
    heading=st.floats(-math.pi, math.pi),
)
def test_no_sequence_of_actions_enters_a_wall(actions: list[int], cell: list[int], heading: float) -> None:
    """The walls are soft: the ball gives way by some thousandths."""
    seen = poses(walker_in(MAZE, cell[1] + 0.5, cell[0] + 0.5, heading), actions)
    reach = WALL_GAP - 0.01
    for x in (seen[:, 0] - reach, seen[:, 0] + reach):
        for y in (seen[:, 1] - reach, seen[:, 1] + reach):
            assert ((x >= 0) & (x < MAZE.shape[1]) & (y >= 0) & (y < MAZE.shape[0])).all()
    cells = np.floor(seen[:, :2]).astype(int)
    assert MAZE[cells[:, 1], cells[:, 0]].all()


def test_a_waypoint_is_faced_within_ten_degrees_before_walking() -> None:
    assert towards(Pose(0.5, 0.5, math.radians(9)), 2.5, 0.5) == FORWARD
    assert towards(Pose(0.5, 0.5, math.radians(11)), 2.5, 0.5) != FORWARD
    assert towards(Pose(0.5, 0.5, math.radians(-11)), 2.5, 0.5) != towards(Pose(0.5, 0.5, math.radians(11)), 2.5, 0.5)
