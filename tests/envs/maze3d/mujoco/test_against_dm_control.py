"""Motion, touches and pictures against dm_control, whose physics, contacts and camera Memory Maze uses."""

import copy
import math
import pickle

import numpy as np
import pytest
from numpy.typing import NDArray

from wmkit_envs.maze3d.kinematics import FORWARD, FORWARD_LEFT, LEFT, NOOP
from wmkit_envs.maze3d.scene import Pose, Scene, dress_walls

ACTIONS = [FORWARD] * 14 + [LEFT] * 3 + [FORWARD_LEFT] * 4 + [FORWARD] * 6 + [NOOP] * 3
"""Over an object, and on against the wall behind it."""


def make_scene(raised: bool = False) -> Scene:
    """A room of 3 x 3 cells with a hall beside it; the walker stands at its end, before an object."""
    free = np.zeros((7, 7), np.bool_)
    free[1:4, 1:4] = free[5, 1:6] = free[4, 1] = True
    floors = np.zeros((7, 7), np.uint8)
    floors[1:4, 1:4] = 1
    start = Pose(4.5, 4.5, math.pi - 0.05)
    return Scene(dress_walls(free, np.random.default_rng(3)), floors, np.array([[2.5, 4.5], [1.5, 1.5]]), start,
                 raised=raised)  # fmt: skip


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.long)], ids=["usual", "raised"])
def walk(request: pytest.FixtureRequest, opengl: str) -> tuple[Scene, list[NDArray[np.generic]]]:
    """The scene; and dm_control's joint positions, touches and pictures, the start included in the last."""
    from tests.references.dm_maze import DmMaze

    scene = make_scene(request.param)
    maze = DmMaze(scene)
    joints, touches, pictures = [], [], [maze.render()]
    for action in ACTIONS:
        touches.append(maze.step(action))
        joints.append(maze.physics.data.qpos.copy())
        pictures.append(maze.render())
    maze.physics.free()
    return scene, [np.array(joints), np.array(touches), np.array(pictures)]


def test_motion_touches_and_pictures_are_dm_controls_to_the_bit(
    walk: tuple[Scene, list[NDArray[np.generic]]],
) -> None:
    from wmkit_envs.maze3d.mujoco.renderer import render
    from wmkit_envs.maze3d.mujoco.walker import Ball
    from wmkit_envs.maze3d.mujoco.walker import joints as joints_of

    scene, (joints, touches, pictures) = walk
    ball = Ball(scene)
    poses, felt = [ball.pose], []
    for action in ACTIONS:
        path = ball.step(action)
        poses.append(ball.pose)
        felt.append(ball.contacts)
        assert path.shape == (50, 2)
        assert tuple(path[-1]) == ball.pose[:2]
    np.testing.assert_array_equal(felt, touches)
    assert np.any(touches, axis=0).tolist() == [True, False]
    assert not np.all(touches[:, 0])
    unturned = joints_of(scene, np.array(poses))[1:]
    unturned[:, 3] += 2 * np.pi * np.rint((joints[:, 3] - unturned[:, 3]) / (2 * np.pi))
    np.testing.assert_allclose(unturned, joints, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(render(scene, np.array(poses)), pictures)


def test_copies_of_a_ball_go_on_as_it_does() -> None:
    pytest.importorskip("mujoco")
    from wmkit_envs.maze3d.mujoco.walker import Ball

    ball = Ball(make_scene())
    for action in ACTIONS[:17]:  # against the wall
        ball.step(action)
    copies = [copy.deepcopy(ball), pickle.loads(pickle.dumps(ball))]
    for twin in copies:
        assert twin.pose == ball.pose
        np.testing.assert_array_equal(twin.contacts, ball.contacts)
    for action in ACTIONS[17:]:
        path = ball.step(action)
        for twin in copies:
            np.testing.assert_array_equal(twin.step(action), path)
            np.testing.assert_array_equal(twin.contacts, ball.contacts)
