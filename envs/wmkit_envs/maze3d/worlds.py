"""The ray-cast worlds: what each is called, how long its episodes are, and how one is drawn from (seed, split, index).

Importing this module is cheap: the ray caster, the maze generator and the policies are imported when first used.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from wmkit_envs.maze3d.picture_size import checked_size
from wmkit_envs.world import Draw, Episode, World

if TYPE_CHECKING:
    from wmkit_envs.maze3d.scene import Scene
    from wmkit_envs.maze3d.simulation import Simulation, Trajectory


@dataclasses.dataclass(frozen=True)
class RayWorld(World):
    """A ray-cast world. Subclasses say how the scene is drawn and who walks in it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.image_shape[1:])

    @property
    def registration(self) -> dict[str, Any]:
        """The environment of `wmkit_envs.maze3d.env`."""
        return {"entry_point": "wmkit_envs.maze3d.env:RayEnv"}

    @abc.abstractmethod
    def begin(self, draw: Draw) -> Simulation:
        """The episode at its first observation."""

    @abc.abstractmethod
    def walk(self, draw: Draw, length: int) -> Simulation:
        """The episode as the world's own policy walks it, at least `length` observations long."""

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode, see `World.generate`, with the truth of `maze3d.observation`. No two splits share a maze."""
        length = self.checked_length(length)
        simulation = self.walk(Draw(seed, split, index), length)
        return self._episode(simulation.scene, simulation.trajectory().first(length))

    def _episode(self, scene: Scene, trajectory: Trajectory) -> Episode:
        from wmkit_envs.maze3d.observation import constant_truth, pictures, step_truth

        length = len(trajectory.poses)
        return {
            "image": pictures(scene, trajectory, self.image_shape[1:]),
            "action": (trajectory.actions[:, None] == np.arange(self.action_dim)).astype(np.float32),
            "reward": trajectory.rewards,
            "is_first": np.arange(length) == 0,
            "is_terminal": np.zeros(length, np.bool_),
            "context_length": np.array(min(self.context_length, length), np.int64),
            **step_truth(scene, trajectory),
            **constant_truth(scene),
        }


@dataclasses.dataclass(frozen=True)
class RayMaze(RayWorld):
    """Random mazes with objects to visit, walked by the wander policy (`wmkit_envs.maze3d.wander`)."""

    size: int = 9
    targets: int = 3
    max_rooms: int = 6
    room_max_size: int = 5

    def begin(self, draw: Draw) -> Simulation:
        """A maze of the draw's split, its walker and its first target."""
        from wmkit_envs.maze3d.mazes import MazeShape, draw_maze
        from wmkit_envs.maze3d.simulation import Simulation

        scene_rng, goal_rng, _ = draw.streams()
        shape = MazeShape(self.size, self.targets, self.max_rooms, room_max_size=self.room_max_size)
        return Simulation(draw_maze(shape, draw.split, scene_rng), goal_rng)

    def walk(self, draw: Draw, length: int) -> Simulation:
        """Wander for exactly `length` observations."""
        from wmkit_envs.maze3d.wander import wander

        simulation = self.begin(draw)
        wander(simulation, length, draw.streams()[2])
        return simulation


@dataclasses.dataclass(frozen=True)
class RayTwoRooms(RayWorld):
    """Two rooms, three objects, and the script of the S4WM data (`wmkit_envs.maze3d.rooms`)."""

    def begin(self, draw: Draw) -> Simulation:
        """The fixed layout with its objects and wall styles; touching objects has no effect."""
        from wmkit_envs.maze3d.rooms import draw_two_rooms
        from wmkit_envs.maze3d.simulation import Simulation

        return Simulation(draw_two_rooms(draw.streams()[0]), goal_rng=None)

    def walk(self, draw: Draw, length: int) -> Simulation:
        """The whole script, whatever the length."""
        from wmkit_envs.maze3d.rooms import walk_two_rooms

        return walk_two_rooms(lambda: self.begin(draw), draw.streams()[2])


def _ray_maze(size: int, targets: int, steps: int, max_rooms: int = 6, room_max_size: int = 5) -> RayMaze:
    return RayMaze(
        name=f"ray_maze_{size}x{size}",
        id=f"wmkit/RayMaze-{size}x{size}-v0",
        episode_length=steps + 1,
        context_length=steps // 2 + 1,
        size=size,
        targets=targets,
        max_rooms=max_rooms,
        room_max_size=room_max_size,
    )


RAY_MAZE_9X9 = _ray_maze(9, targets=3, steps=1000)
RAY_MAZE_11X11 = _ray_maze(11, targets=4, steps=2000)
RAY_MAZE_13X13 = _ray_maze(13, targets=5, steps=3000)
RAY_MAZE_15X15 = _ray_maze(15, targets=6, steps=4000, max_rooms=9, room_max_size=3)

RAY_TWO_ROOMS = RayTwoRooms(name="ray_two_rooms", id="wmkit/RayTwoRooms-v0", episode_length=501, context_length=301)

RAY_WORLDS: tuple[RayWorld, ...] = (RAY_MAZE_9X9, RAY_MAZE_11X11, RAY_MAZE_13X13, RAY_MAZE_15X15, RAY_TWO_ROOMS)
