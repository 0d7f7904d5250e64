"""One episode in motion: the walker and the current target, the record of where they have been, and what is seen there.

Names and conventions of the ground truth are those of Memory Maze's ExtraObs and its public data set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.compiled import compiled
from wmkit_envs.maze3d.ball import BALL_RADIUS, UNITS_PER_CELL
from wmkit_envs.maze3d.kinematics import NUM_ACTIONS, Walker
from wmkit_envs.maze3d.raycast import OBJECT_RADIUS
from wmkit_envs.maze3d.scene import Pose, Scene

_HEIGHT = BALL_RADIUS / UNITS_PER_CELL
TOUCH_DISTANCE = math.sqrt((OBJECT_RADIUS + _HEIGHT) ** 2 - _HEIGHT**2)
"""Of the centres as seen from above, in cells: the ball rolls on the floor, the object's centre lies in it."""
BORDER_BRIGHTNESS = 0.7
"""The image's border has this share of the current target's colour."""


Renderer = Callable[[Scene, NDArray[np.float64], tuple[int, int]], NDArray[np.uint8]]
"""Images (T, H, W, 3) of a scene from poses (T, 5), of size (H, W)."""


class Body(Protocol):
    """What walks: `kinematics.Walker`, whose ball is compiled, or MuJoCo's ball."""

    @property
    def pose(self) -> Pose:
        """Where it is now."""

    @property
    def contacts(self) -> NDArray[np.bool_] | None:
        """(k,) the objects it felt at any moment of its last step; None where its path tells."""

    def step(self, action: int) -> NDArray[np.float64]:
        """Take one of the six actions; x and y (n, 2) at the end of each of the step's n parts."""


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """What happened over T observations, T = number of actions + 1."""

    actions: NDArray[np.int64]
    """(T,) the action that led to each observation; -1 at the first."""
    poses: NDArray[np.float64]
    """(T, 5) those of `Pose`, x, y and heading first."""
    rewards: NDArray[np.float32]
    """(T,) received with each observation; 0 at the first."""
    goals: NDArray[np.int64] | None
    """(T,) index of the current target at each observation; None in a world without targets."""
    begin: int = 0
    """Step of the episode at which the first of them was made."""

    @property
    def steps(self) -> NDArray[np.int64]:
        """(T,) the step of each observation."""
        return self.begin + np.arange(len(self.poses))

    def first(self, length: int) -> Trajectory:
        """The first `length` observations."""
        goals = None if self.goals is None else self.goals[:length]
        return Trajectory(self.actions[:length], self.poses[:length], self.rewards[:length], goals, self.begin)


class Simulation:
    """The stepper that environments and generators share.

    With a `goal_rng`, one object is the current target: touching it gives reward 1, and the next target is drawn
    uniformly among the objects that are not being touched. Touching is looked for at each of the walker's substeps.
    Without a `goal_rng` it has no effect.
    """

    def __init__(self, scene: Scene, goal_rng: np.random.Generator | None, walker: Body | None = None) -> None:
        self.scene = scene
        self.goal = None if goal_rng is None else int(goal_rng.integers(len(scene.objects)))
        self._goal_rng = goal_rng
        self._walker: Body = walker or Walker(scene)
        self._actions, self._rewards = [-1], [0.0]
        self._poses, self._goals = [self._walker.pose], [self.goal]

    def __len__(self) -> int:
        """Observations so far."""
        return len(self._poses)

    @property
    def pose(self) -> Pose:
        """Where the walker is now."""
        return self._poses[-1]

    def step(self, action: int) -> float:
        """Take one of the six actions; returns the reward. Raises `ValueError` for an action that does not exist."""
        if not 0 <= action < NUM_ACTIONS:
            raise ValueError(f"action: expected 0..{NUM_ACTIONS - 1}, got {action}")
        path = self._walker.step(action)  # (n, 2)
        reward = 0.0
        if self._goal_rng is not None and self.goal is not None:
            touched = self._walker.contacts
            if touched is None:
                touched = _touched(path, self.scene.objects)
            if touched[self.goal]:
                reward = 1.0
                self.goal = int(self._goal_rng.choice(np.flatnonzero(~touched)))
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
        last = (np.array(self._actions[-1:]), np.array(self._poses[-1:]), np.array(self._rewards[-1:], np.float32))
        return Trajectory(*last, goals, begin=len(self) - 1)


@compiled
def _touched(path: NDArray[np.float64], objects: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(k,) which of the `objects` (k, 2) a walker touched that was at each place of `path` (n, 2)."""
    touched = np.zeros(len(objects), np.bool_)
    for place in range(len(path)):
        for which in range(len(objects)):
            x, y = path[place, 0] - objects[which, 0], path[place, 1] - objects[which, 1]
            touched[which] |= math.sqrt(x * x + y * y) < TOUCH_DISTANCE
    return touched


def images(scene: Scene, trajectory: Trajectory, size: tuple[int, int], render: Renderer) -> NDArray[np.uint8]:
    """(T, H, W, 3) uint8; where there is a current target, in a border of its colour.

    The border is floor(2 sqrt(floor(H / 64))) pixels wide, as in Memory Maze, and 1 pixel in smaller images.
    """
    images = render(scene, trajectory.poses, size)
    if trajectory.goals is not None:
        borders = (255 * BORDER_BRIGHTNESS * scene.colors).astype(np.uint8)[trajectory.goals]  # (T, 3), truncated
        width = max(1, int(2 * math.sqrt(size[0] // 64)))
        for edge in (slice(None, width), slice(-width, None)):
            images[:, edge] = borders[:, None, None]
            images[:, width:-width, edge] = borders[:, None, None]
    return images


def constant_truth(scene: Scene) -> dict[str, NDArray[np.generic]]:
    """What holds for the whole episode: `maze_layout` (h, w), 1 free, row 0 at the bottom; `targets_pos` (k, 2), or of
    objects that circle `targets_circling` (k,), radians a step, counter-clockwise; where each outer wall is of one
    style `wall_styles` (4,), counter-clockwise from the lower one.
    """
    targets = {"targets_pos": scene.objects} if scene.circling is None else {"targets_circling": scene.circling}
    styles = {} if scene.sides is None else {"wall_styles": scene.sides.astype(np.int64)}
    return {"maze_layout": scene.layout, **{key: value.astype(np.float32) for key, value in targets.items()}, **styles}


def step_truth(scene: Scene, trajectory: Trajectory) -> dict[str, NDArray[np.generic]]:
    """What changes, leading axis T.

    `agent_pos` (T, 2) in cells, `agent_dir` (T, 2) unit vector, `targets_vec` (T, k, 2) from the agent in its own frame
    as [right, forward]; of objects that circle also `targets_pos` (T, k, 2); with a current target `target_pos`,
    `target_vec` (T, 2), `target_color` (T, 3) in [0, 1]; where rooms have numbers `room` (T,) int64, -1 in doorways.
    """
    position, heading = trajectory.poses[:, :2], trajectory.poses[:, 2]
    direction = np.stack([np.cos(heading), np.sin(heading)], axis=1)  # (T, 2)
    cos, sin = direction.T[:, :, None]  # (T, 1) each
    objects = scene.objects_at(trajectory.steps)  # (T or 1, k, 2)
    x, y = np.moveaxis(objects - position[:, None], -1, 0)  # (T, k) each
    vectors = np.stack([x * sin - y * cos, x * cos + y * sin], axis=-1)  # (T, k, 2)
    truth = {"agent_pos": position, "agent_dir": direction, "targets_vec": vectors}
    if scene.circling is not None:
        truth["targets_pos"] = objects
    if trajectory.goals is not None:
        rows = np.arange(len(position))
        truth["target_pos"] = scene.objects[trajectory.goals]
        truth["target_vec"] = vectors[rows, trajectory.goals]
        truth["target_color"] = scene.colors[trajectory.goals]
    changing: dict[str, NDArray[np.generic]] = {key: value.astype(np.float32) for key, value in truth.items()}
    if scene.rooms is not None:
        column, row = np.floor(position).astype(np.int64).T  # (T,) each
        changing["room"] = scene.rooms[row, column]
    return changing
