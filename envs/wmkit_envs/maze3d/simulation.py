"""One episode in motion, without images: the walker, the current target, and the record of where they have been."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.kinematics import NUM_ACTIONS, RADIUS, Walker
from wmkit_envs.maze3d.scene import Pose, Scene

TOUCH_DISTANCE = 0.3 + RADIUS
"""Centre to centre, in cells: the object's radius and the walker's."""


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """What happened over T observations, T = number of actions + 1."""

    actions: NDArray[np.int64]
    """(T,) the action that led to each observation; -1 at the first."""
    poses: NDArray[np.float64]
    """(T, 3)"""
    rewards: NDArray[np.float32]
    """(T,) received with each observation; 0 at the first."""
    goals: NDArray[np.int64] | None
    """(T,) index of the current target at each observation; None in a world without targets."""

    def first(self, length: int) -> Trajectory:
        """The first `length` observations."""
        goals = None if self.goals is None else self.goals[:length]
        return Trajectory(self.actions[:length], self.poses[:length], self.rewards[:length], goals)


class Simulation:
    """The stepper that environments and generators share.

    With a `goal_rng`, one object is the current target: touching it gives reward 1, and the next target is drawn
    uniformly among the objects that are not being touched. Without one, touching has no effect.
    """

    def __init__(self, scene: Scene, goal_rng: np.random.Generator | None) -> None:
        self.scene = scene
        self.goal = None if goal_rng is None else int(goal_rng.integers(len(scene.objects)))
        self._goal_rng = goal_rng
        self._objects = [(float(x), float(y)) for x, y in scene.objects]
        self._walker = Walker(scene.layout, scene.start)
        self._actions, self._rewards = [-1], [0.0]
        self._poses, self._goals = [self._walker.pose], [self.goal]

    def __len__(self) -> int:
        """Observations so far."""
        return len(self._poses)

    @property
    def pose(self) -> Pose:
        """Where the walker is now."""
        return self._walker.pose

    def step(self, action: int) -> float:
        """Take one of the six actions; returns the reward. Raises `ValueError` for an action that does not exist."""
        if not 0 <= action < NUM_ACTIONS:
            raise ValueError(f"action: expected 0..{NUM_ACTIONS - 1}, got {action}")
        self._walker.step(action)
        reward = self._collect()
        self._actions.append(action)
        self._rewards.append(reward)
        self._poses.append(self._walker.pose)
        self._goals.append(self.goal)
        return reward

    def trajectory(self) -> Trajectory:
        """Everything so far."""
        goals = None if self.goal is None else np.array(self._goals, np.int64)
        return Trajectory(
            np.array(self._actions, np.int64), np.array(self._poses), np.array(self._rewards, np.float32), goals
        )

    def now(self) -> Trajectory:
        """The present observation alone, as a trajectory of length 1."""
        goals = None if self.goal is None else np.array([self.goal])
        return Trajectory(
            np.array(self._actions[-1:]), np.array([self.pose]), np.array(self._rewards[-1:], np.float32), goals
        )

    def _collect(self) -> float:
        """Reward for touching the current target, which then changes."""
        if self._goal_rng is None or self.goal is None or not self._touches(self.goal):
            return 0.0
        others = [index for index in range(len(self._objects)) if not self._touches(index)]
        self.goal = int(self._goal_rng.choice(others))
        return 1.0

    def _touches(self, index: int) -> bool:
        x, y = self._objects[index]
        return math.hypot(x - self._walker.x, y - self._walker.y) < TOUCH_DISTANCE
