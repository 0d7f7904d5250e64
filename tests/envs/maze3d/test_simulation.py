"""Targets: touch, reward, the next target. Ground truth: coordinates, frames of reference, the border's colour."""

import dataclasses
import math

import numpy as np
import pytest

from wmkit_envs.maze3d.kinematics import FORWARD, NOOP
from wmkit_envs.maze3d.raycast import render
from wmkit_envs.maze3d.scene import OBJECT_COLORS, OPEN, Pose, Scene
from wmkit_envs.maze3d.simulation import TOUCH_DISTANCE, Simulation, Trajectory, constant_truth, images, step_truth


def scene_with(*objects: tuple[float, float]) -> Scene:
    """A hall of 8 x 1 cells, the walker at its left end facing right."""
    walls = np.zeros((3, 10), np.int8)
    walls[1:-1, 1:-1] = OPEN
    return Scene(walls, np.zeros((3, 10), np.uint8), np.array(objects), Pose(0.5, 0.5, 0.0))


def start_with_goal(scene: Scene, goal: int) -> Simulation:
    """A simulation whose first target is `goal`."""
    for seed in range(100):
        simulation = Simulation(scene, np.random.default_rng(seed))
        if simulation.goal == goal:
            return simulation
    raise AssertionError("no seed starts with this goal")


def test_touching_the_target_gives_one_reward_and_changes_the_target() -> None:
    simulation = start_with_goal(scene_with((3.5, 0.5), (7.5, 0.5)), goal=0)
    rewards = [simulation.step(FORWARD) for _ in range(18)]
    assert sum(rewards) == 1
    touched = rewards.index(1) + 1
    trajectory = simulation.trajectory()
    distance = 3.5 - trajectory.poses[:, 0]
    assert distance[touched] < 0.3873 <= distance[touched - 1]
    assert trajectory.goals is not None
    np.testing.assert_array_equal(trajectory.goals[:touched], 0)
    np.testing.assert_array_equal(trajectory.goals[touched:], 1)
    assert trajectory.rewards[touched] == 1


def test_an_object_that_is_touched_within_a_step_only_counts() -> None:
    """The walker passes the object's edge on its way and is clear of it when each step ends."""
    scene = scene_with((0.7, 0.5 + TOUCH_DISTANCE - 1e-4), (7.5, 0.5))
    simulation = start_with_goal(scene, goal=0)
    reward = simulation.step(FORWARD) + simulation.step(FORWARD)
    assert reward == 1
    ends = simulation.trajectory().poses[1:, :2]
    assert (np.hypot(*(scene.objects[0] - ends).T) > TOUCH_DISTANCE).all()


def test_touching_another_object_gives_nothing() -> None:
    simulation = start_with_goal(scene_with((3.5, 0.5), (7.5, 0.5)), goal=1)
    assert sum(simulation.step(FORWARD) for _ in range(15)) == 0


def test_the_next_target_is_not_one_that_is_being_touched() -> None:
    for seed in range(30):
        simulation = Simulation(scene_with((3.5, 0.5), (3.6, 0.5), (7.5, 0.5)), np.random.default_rng(seed))
        while simulation.goal != 2:
            simulation.step(FORWARD)
        assert simulation.pose.x < 4


def test_without_targets_objects_do_nothing() -> None:
    simulation = Simulation(scene_with((1.5, 0.5)), None)
    assert sum(simulation.step(FORWARD) for _ in range(10)) == 0
    assert simulation.goal is None
    assert simulation.trajectory().goals is None
    assert simulation.now().goals is None


def test_the_record_holds_the_action_that_led_to_each_observation() -> None:
    simulation = Simulation(scene_with((7.5, 0.5)), np.random.default_rng(0))
    for action in (FORWARD, NOOP, 3):
        simulation.step(action)
    trajectory = simulation.trajectory()
    assert len(simulation) == 4
    np.testing.assert_array_equal(trajectory.actions, [-1, FORWARD, NOOP, 3])
    assert tuple(trajectory.poses[0]) == simulation.scene.start
    assert tuple(trajectory.poses[-1]) == simulation.pose
    np.testing.assert_array_equal(simulation.now().poses, trajectory.poses[-1:])
    np.testing.assert_array_equal(trajectory.first(2).actions, [-1, FORWARD])


@pytest.mark.parametrize("action", [-1, 6])
def test_an_action_that_does_not_exist_is_refused(action: int) -> None:
    with pytest.raises(ValueError, match="action"):
        Simulation(scene_with((7.5, 0.5)), None).step(action)


@pytest.fixture
def scene() -> Scene:
    """3 x 2 cells with one inner wall at x = 0, y = 1; two objects."""
    walls = np.zeros((4, 5), np.int8)
    walls[1:-1, 1:-1] = OPEN
    walls[2, 1] = 0
    return Scene(walls, np.zeros((4, 5), np.uint8), np.array([[2.5, 0.5], [1.5, 1.5]]), Pose(1.5, 0.5, 0.0))


def standing(heading: float, goal: int | None) -> Trajectory:
    goals = None if goal is None else np.array([goal])
    return Trajectory(np.array([-1]), np.array([[1.5, 0.5, heading]]), np.zeros(1, np.float32), goals)


def test_row_zero_of_the_layout_is_the_bottom(scene: Scene) -> None:
    np.testing.assert_array_equal(constant_truth(scene)["maze_layout"], [[1, 1, 1], [0, 1, 1]])


def test_target_vectors_are_right_and_forward_of_the_agent(scene: Scene) -> None:
    truth = step_truth(scene, standing(math.pi / 2, goal=None))
    np.testing.assert_allclose(truth["agent_dir"], [[0, 1]], atol=1e-6)
    np.testing.assert_allclose(truth["targets_vec"], [[[1, 0], [0, 1]]], atol=1e-6)


@pytest.mark.parametrize("heading", [0.0, 1.0, -2.5])
def test_target_vectors_lead_from_the_agent_to_the_objects(scene: Scene, heading: float) -> None:
    truth = step_truth(scene, standing(heading, goal=1))
    forward = truth["agent_dir"][0]
    right = np.array([forward[1], -forward[0]])
    reached = truth["agent_pos"][0] + truth["targets_vec"][0] @ np.stack([right, forward])
    np.testing.assert_allclose(reached, constant_truth(scene)["targets_pos"], atol=1e-6)
    np.testing.assert_allclose(truth["target_vec"][0], truth["targets_vec"][0, 1])
    np.testing.assert_allclose(truth["target_pos"][0], [1.5, 1.5])
    np.testing.assert_allclose(truth["target_color"][0], OBJECT_COLORS[1], rtol=1e-6)


def test_objects_that_circle_have_a_place_at_every_step_and_others_have_one() -> None:
    scene = dataclasses.replace(scene_with((2.5, 0.5), (0.5, 0.25)), circling=np.array([math.pi / 2, -math.pi / 4]))
    simulation = Simulation(scene, None)
    for _ in range(2):
        simulation.step(NOOP)
    for trajectory, steps in ((simulation.trajectory(), [0, 1, 2]), (simulation.now(), [2])):
        np.testing.assert_array_equal(trajectory.steps, steps)
        truth = step_truth(scene, trajectory)
        slant = 0.5 - 0.25 / math.sqrt(2)
        places = np.array([[[2.5, 0.5], [0.5, 0.25]], [[0.5, 2.5], [slant, slant]], [[-1.5, 0.5], [0.25, 0.5]]])
        np.testing.assert_allclose(truth["targets_pos"], places[steps], atol=1e-6)
        right_and_ahead = np.stack([0.5 - places[..., 1], places[..., 0] - 0.5], axis=-1)  # it looks along x
        np.testing.assert_allclose(truth["targets_vec"], right_and_ahead[steps], atol=1e-6)
    assert constant_truth(scene).keys() == {"maze_layout", "targets_circling"}
    assert simulation.trajectory().first(2).steps.tolist() == [0, 1]
    assert scene_with((2.5, 0.5)).objects_at(np.arange(3)).shape == (1, 1, 2)


def test_the_border_has_seven_tenths_of_the_targets_colour(scene: Scene) -> None:
    picture = images(scene, standing(0.0, goal=1), (64, 64), render)[0]
    for edge in (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]):
        np.testing.assert_array_equal(edge, np.broadcast_to(np.floor(255 * 0.7 * OBJECT_COLORS[1]), edge.shape))


@pytest.mark.parametrize(("side", "width"), [(16, 1), (64, 2), (128, 2), (256, 4)])
def test_the_border_scales_with_the_image_and_hides_nothing_else(scene: Scene, side: int, width: int) -> None:
    framed, plain = (images(scene, standing(0.0, goal=goal), (side, side), render)[0] for goal in (1, None))
    is_border = np.zeros((side, side), np.bool_)
    is_border[:width] = is_border[-width:] = is_border[:, :width] = is_border[:, -width:] = True
    assert len(np.unique(framed[is_border], axis=0)) == 1
    np.testing.assert_array_equal(framed[~is_border], plain[~is_border])


def test_a_world_without_targets_has_no_border_and_no_target_keys(scene: Scene) -> None:
    assert not {"target_pos", "target_vec", "target_color"} & set(step_truth(scene, standing(0.0, goal=None)))
    picture = images(scene, standing(0.0, goal=None), (64, 64), render)[0]
    assert np.ptp(picture[:, 0].astype(int), axis=0).min() > 20
