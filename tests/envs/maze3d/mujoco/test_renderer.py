"""MuJoCo's pictures: what is asked for is checked, what a scene holds goes with it, the picture from above."""

import gc
import math

import numpy as np
import pytest

from wmkit_envs.maze3d.scene import OPEN, Pose, Scene

pytestmark = pytest.mark.usefixtures("opengl")


@pytest.fixture
def scene() -> Scene:
    """A hall of 3 x 1 cells, an object at its right end."""
    walls = np.full((3, 5), 5, np.int8)  # blue
    walls[1, 1:4] = OPEN
    return Scene(walls, np.zeros((3, 5), np.uint8), np.array([[2.5, 0.5]]), Pose(0.5, 0.5, 0.0))


def test_a_pose_of_three_stands_where_it_was_put(scene: Scene) -> None:
    from wmkit_envs.maze3d.mujoco.renderer import render

    poses = np.array([[0.5, 0.5, 0.0], [1.0, 0.4, 1.0]])
    full = np.pad(poses, ((0, 0), (0, 2)))
    np.testing.assert_array_equal(render(scene, poses, (16, 24)), render(scene, full, (16, 24)))
    lifted = full + np.array([0, 0, 0, 0.05, 0])
    assert not np.array_equal(render(scene, lifted, (16, 24)), render(scene, full, (16, 24)))


def test_from_above_x_is_to_the_right_and_y_up(scene: Scene) -> None:
    from wmkit_envs.maze3d.mujoco.renderer import render

    left, right = render(scene, np.array([[0.5, 0.5, 0.0], [1.5, 0.5, 0.0]]), (64, 64), from_above=True).astype(int)
    object_red = (left[..., 0] > 120) & (left[..., 1] < 60)
    where = np.argwhere(object_red)
    assert abs(where[:, 0].mean() - 31.5) < 2
    assert where[:, 1].mean() > 36
    moved = np.argwhere(np.abs(left - right).sum(-1) > 60)[:, 1]
    assert moved.max() - moved.min() > 8


def test_an_object_has_its_colour_and_stands_to_the_left_where_the_walker_looks_past_it(scene: Scene) -> None:
    from wmkit_envs.maze3d.mujoco.renderer import render

    ahead, past = render(scene, np.array([[0.5, 0.5, 0.0], [0.5, 0.5, math.radians(-15)]])).astype(int)
    columns = []
    for picture in (ahead, past):
        floor_half = picture[33:50]
        is_red = (floor_half[..., 0] > 100) & (floor_half[..., 1:].max(-1) < 70)
        columns.append(np.argwhere(is_red)[:, 1].mean())
    assert abs(columns[0] - 31.5) < 1.5
    assert columns[1] < columns[0] - 5


def test_what_a_scene_holds_goes_with_it(scene: Scene) -> None:
    from dataclasses import replace

    from wmkit_envs.maze3d.mujoco import renderer

    gc.collect()
    before = len(renderer._stages)
    twin = replace(scene)
    renderer.render(twin, np.array([twin.start]), (8, 8))
    assert len(renderer._stages) == before + 1
    del twin
    assert len(renderer._stages) == before


@pytest.mark.parametrize(
    ("poses", "size", "message"),
    [
        ([[0.5, 0.5, 0.0]], (4, 64), "image size"),
        ([[0.5, 0.5, 0.0, 0.0]], (8, 8), r"poses: expected shape \(T, 5\)"),
        ([0.5, 0.5, 0.0], (8, 8), "poses"),
    ],
)
def test_wrong_requests_are_refused(scene: Scene, poses: list[object], size: tuple[int, int], message: str) -> None:
    from wmkit_envs.maze3d.mujoco.renderer import render

    with pytest.raises(ValueError, match=message):
        render(scene, np.array(poses), size)
