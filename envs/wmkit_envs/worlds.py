"""The worlds: what each is called, how long its episodes are, and how one episode is drawn from (seed, split, index).

Importing this module is cheap: the ray caster, the maze generator and the policies are imported when first used.
"""

from __future__ import annotations

import abc
import dataclasses
import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.picture_size import checked_size

if TYPE_CHECKING:
    from wmkit_envs.scene import Scene
    from wmkit_envs.simulation import Simulation, Trajectory

Episode = dict[str, NDArray[Any]]
SPLITS = {"train": 0, "valid": 1, "test": 2}
"""Number of each split in the seed's spawn key."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """Where an episode's randomness comes from: three independent streams per (seed, split, index)."""

    seed: int
    split: str = "train"
    index: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0 or self.index < 0:
            raise ValueError(f"seed and index: expected integers >= 0, got seed={self.seed}, index={self.index}")
        if self.split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {self.split!r}")

    def streams(self) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator]:
        """Generators for the scene, for the order of targets, and for the policy."""
        root = np.random.SeedSequence(entropy=self.seed, spawn_key=(SPLITS[self.split], self.index))
        scene, goals, policy = (np.random.default_rng(child) for child in root.spawn(3))
        return scene, goals, policy


@dataclasses.dataclass(frozen=True)
class World(abc.ABC):
    """A kind of episode. Subclasses say how the scene is drawn and who walks in it."""

    name: str
    """Short name, as in `world=ray_maze_9x9`."""
    id: str
    """Gymnasium id."""
    episode_length: int
    """Observations of a whole episode: steps + 1."""
    context_length: int
    """Observations before the query begins."""
    image_shape: tuple[int, int, int] = (3, 64, 64)
    """Channels, height, width; other sizes by `dataclasses.replace(world, image_shape=(3, 128, 128))`."""
    action_dim: int = 6

    def __post_init__(self) -> None:
        if len(self.image_shape) != 3 or self.image_shape[0] != 3:
            raise ValueError(f"image_shape: expected (3, height, width), got {self.image_shape}")
        checked_size(self.image_shape[1:])

    @abc.abstractmethod
    def begin(self, draw: Draw) -> Simulation:
        """The episode at its first observation."""

    @abc.abstractmethod
    def walk(self, draw: Draw, length: int) -> Simulation:
        """The episode as the world's own policy walks it, at least `length` observations long."""

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode of the world's own policy.

        `image` (T, H, W, 3) uint8; `action` (T, 6) one-hot float32 that led to each image, zeros at the first; `reward`
        (T,) float32; `is_first`, `is_terminal` (T,) bool; `context_length` () int64; and the ground truth of
        `wmkit_envs.observation`. T is `episode_length`, or `length` for the first `length` observations of the same
        episode (the context is then at most that long). Everything is a function of (seed, split, index) and no two
        splits share a maze.

        Raises `ValueError` for an unknown split, a negative seed or index, and a length outside 1..`episode_length`.
        """
        length = self._checked_length(length)
        simulation = self.walk(Draw(seed, split, index), length)
        return self._episode(simulation.scene, simulation.trajectory().first(length))

    def _checked_length(self, length: int | None) -> int:
        length = self.episode_length if length is None else length
        if not 1 <= length <= self.episode_length:
            raise ValueError(f"length: expected 1..{self.episode_length} observations of {self.name}, got {length}")
        return length

    def _episode(self, scene: Scene, trajectory: Trajectory) -> Episode:
        from wmkit_envs.observation import constant_truth, pictures, step_truth

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
class RayMaze(World):
    """Random mazes with objects to visit, walked by the wander policy (`wmkit_envs.wander`)."""

    size: int = 9
    targets: int = 3
    max_rooms: int = 6
    room_max_size: int = 5

    def begin(self, draw: Draw) -> Simulation:
        """A maze of the draw's split, its walker and its first target."""
        from wmkit_envs.mazes import MazeShape, draw_maze
        from wmkit_envs.simulation import Simulation

        scene_rng, goal_rng, _ = draw.streams()
        shape = MazeShape(self.size, self.targets, self.max_rooms, room_max_size=self.room_max_size)
        return Simulation(draw_maze(shape, draw.split, scene_rng), goal_rng)

    def walk(self, draw: Draw, length: int) -> Simulation:
        """Wander for exactly `length` observations."""
        from wmkit_envs.wander import wander

        simulation = self.begin(draw)
        wander(simulation, length, draw.streams()[2])
        return simulation


@dataclasses.dataclass(frozen=True)
class RayTwoRooms(World):
    """Two rooms, three objects, and the script of the S4WM data (`wmkit_envs.two_rooms`)."""

    def begin(self, draw: Draw) -> Simulation:
        """The fixed layout with its objects and wall styles; touching objects has no effect."""
        from wmkit_envs.simulation import Simulation
        from wmkit_envs.two_rooms import draw_two_rooms

        return Simulation(draw_two_rooms(draw.streams()[0]), goal_rng=None)

    def walk(self, draw: Draw, length: int) -> Simulation:
        """The whole script, whatever the length."""
        from wmkit_envs.two_rooms import walk_two_rooms

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

WORLDS: dict[str, World] = {
    world.name: world for world in (RAY_MAZE_9X9, RAY_MAZE_11X11, RAY_MAZE_13X13, RAY_MAZE_15X15, RAY_TWO_ROOMS)
}


def find_world(name: str) -> World:
    """The world of a short name or a Gymnasium id; raises `ValueError` with the closest match and the list of names."""
    known = WORLDS | {world.id: world for world in WORLDS.values()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Unknown world {name!r}.{hint} Known: {', '.join(sorted(known))}.")
