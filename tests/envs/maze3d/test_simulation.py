"""Targets: touch, reward, the next target."""

import numpy as np
import pytest

from wmkit_envs.maze3d.kinematics import FORWARD, NOOP
from wmkit_envs.maze3d.scene import OPEN, Pose, Scene
from wmkit_envs.maze3d.simulation import TOUCH_DISTANCE, Simulation


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
    assert distance[touched] < TOUCH_DISTANCE <= distance[touched - 1]
    assert trajectory.goals is not None
    np.testing.assert_array_equal(trajectory.goals[:touched], 0)
    np.testing.assert_array_equal(trajectory.goals[touched:], 1)
    assert trajectory.rewards[touched] == 1


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
