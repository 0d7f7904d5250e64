"""The 3D worlds: their settings, how long their episodes are, and how one is made from (seed, split, index).

Each has the same scenes under every renderer and physics. Importing this module is cheap: the ray caster, MuJoCo and
the maze generator are imported when first used.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib.util
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.scene import MAX_SIDE, MIN_SIDE, Scene
from wmkit_envs.maze3d.timetable import LONGER, TELEPORT, USUAL, Timetable
from wmkit_envs.world import Episode, EpisodeSeed, World, check_integer

if TYPE_CHECKING:
    from wmkit_envs.maze3d.simulation import Body, Renderer, Simulation, Trajectory

MAZES: dict[int, dict[str, int]] = {
    9: {"targets": 3},
    11: {"targets": 4},
    13: {"targets": 5},
    15: {"targets": 6, "max_rooms": 9, "room_max_size": 3},
}
"""Memory Maze's parameters of labmaze by the size of the maze."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RayWorld(World):
    """A 3D world. Subclasses say what the scene is and who walks in it."""

    action_dim: ClassVar[int] = 6  # kinematics.NUM_ACTIONS, which needs Numba
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "renderer": ("raycast", "mujoco"),
        "physics": ("ball", "mujoco"),
    }
    """What these settings can be."""
    elsewhere: ClassVar[str] = ""
    """Which family has what this one has not."""
    image_size: int = 64
    """Pixels on a side of the image."""
    renderer: str = "raycast"
    """What draws: the ray caster, or MuJoCo with labmaze's textures, which needs `wmkit[mujoco]` and OpenGL."""
    physics: str = "ball"
    """What moves the walker: MuJoCo's equations for the ball, compiled, or MuJoCo, which needs `wmkit[mujoco]`."""
    plain: bool = False
    """Walls and floor have no patterns, each is of one colour: simpler to learn. For the ray caster alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("image_size", self.image_size, MIN_SIDE, MAX_SIDE)
        for setting, known in self.choices.items():
            if getattr(self, setting) not in known:
                expected = " or ".join(known) + self.elsewhere
                raise ValueError(f"{setting}: expected {expected}, got {getattr(self, setting)!r}")
        for field in dataclasses.fields(self):
            if isinstance(field.default, bool) and not isinstance(value := getattr(self, field.name), bool):
                raise ValueError(f"{field.name}: expected True or False, got {value!r}")
        if self.plain and self.renderer == "mujoco":
            raise ValueError("plain: expected False with renderer=mujoco, whose textures are labmaze's, got True")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 3, self.image_size, self.image_size

    @property
    def walls_hide(self) -> bool:
        """Whether nothing is in view behind the nearest wall, so that `first_seen` can be told."""
        return True

    @property
    def missing(self) -> str:
        """The command that installs what this world needs beyond wmkit itself; empty where all is there."""
        needed = ("mujoco", "dm_control") if "mujoco" in (self.renderer, self.physics) else ()
        return "pip install 'wmkit[mujoco]'" if not all(map(importlib.util.find_spec, needed)) else ""

    @property
    def drawn_by(self) -> str:
        """What draws in this process, such as "egl, llvmpipe (LLVM 15.0.6, 256 bits)"; raises as `generate` does."""
        if self.renderer == "raycast":
            return "the ray caster"
        from wmkit_envs.maze3d.mujoco import gl

        return gl.describe()

    @property
    def registration(self) -> dict[str, Any]:
        """Entry points for `gymnasium.register`."""
        return {"entry_point": "wmkit_envs.maze3d.env:RayEnv"}

    @abc.abstractmethod
    def begin(self, seed: EpisodeSeed) -> Simulation:
        """The episode at its first observation."""

    @abc.abstractmethod
    def walk(self, seed: EpisodeSeed, length: int) -> Simulation:
        """The episode as the world's own policy walks it, at least `length` observations long."""

    def simulate(self, scene: Scene, goal_rng: np.random.Generator | None) -> Simulation:
        """The scene at its first observation, see `Simulation`, under this world's physics."""
        from wmkit_envs.maze3d.simulation import Simulation

        scene = dataclasses.replace(scene, plain=self.plain)
        return Simulation(scene, goal_rng, self.put_ball(scene) if self.physics == "mujoco" else None)

    def put_ball(self, scene: Scene) -> Body:
        """MuJoCo's ball at the scene's start."""
        from wmkit_envs.maze3d.mujoco.walker import Ball

        return Ball(scene)

    def find_renderer(self) -> Renderer:
        """What draws this world's scenes."""
        if self.renderer == "mujoco":
            from wmkit_envs.maze3d.mujoco import renderer

            return renderer.render
        from wmkit_envs.maze3d import raycast

        return raycast.render

    def draw(self, scene: Scene, trajectory: Trajectory) -> NDArray[np.uint8]:
        """Images (T, H, W, 3) of what was seen."""
        from wmkit_envs.maze3d.simulation import images

        return images(scene, trajectory, self.image_shape[1:], self.find_renderer())

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode, see `World.generate`, with the truth of `maze3d.simulation`. No two splits share a maze."""
        from wmkit_envs.maze3d.simulation import constant_truth, step_truth
        from wmkit_envs.maze3d.view import first_seen

        length = self.checked_length(length)
        simulation = self.walk(EpisodeSeed(seed, split, index), length)
        scene, trajectory = simulation.scene, simulation.trajectory().first(length)
        steps = {
            "image": self.draw(scene, trajectory),
            "action": (trajectory.actions[:, None] == np.arange(self.action_dim)).astype(np.float32),
            "reward": trajectory.rewards,
            "is_first": np.arange(length) == 0,
            "is_terminal": np.zeros(length, np.bool_),
            **step_truth(scene, trajectory),
        }
        if self.walls_hide:
            steps["first_seen"] = first_seen(scene, trajectory.poses)
        context = np.array(min(self.context_length, length), np.int64)
        return Episode(steps, {"context_length": context, **constant_truth(scene)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RayMaze(RayWorld):
    """Random mazes with objects to visit, walked by the wander policy (`wmkit_envs.maze3d.mazes`).

    An episode has 1000, 2000, 3000 or 4000 steps by the size of the maze; its first half is the context.
    """

    in_stem: ClassVar[tuple[str, ...]] = ("size",)
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"renderer": ("raycast",), "physics": ("ball", "mujoco")}
    elsewhere: ClassVar[str] = " (MuJoCo's pictures of mazes: memory_maze)"
    size: int = 9
    """Cells along a side without the outer wall: 9, 11, 13 or 15, as published."""
    six_colors: bool = False
    """Objects have some of all six colours, drawn in each episode; else always the first ones ("6CL")."""
    oracle: bool = False
    """A small map with the way to the current target in the picture ("Oracle")."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size not in MAZES:
            raise ValueError(f"size: expected one of {', '.join(map(str, MAZES))}, got {self.size!r}")
        if self.oracle and self.image_size < 2 * self.size:
            raise ValueError(f"oracle: expected image_size of at least {2 * self.size}, got {self.image_size}")

    @property
    def stem(self) -> str:
        return f"ray_maze_{self.size}x{self.size}"

    @property
    def episode_length(self) -> int:
        return 500 * (self.size - 7) + 1

    @property
    def context_length(self) -> int:
        return self.episode_length // 2 + 1

    def begin(self, seed: EpisodeSeed) -> Simulation:
        """A maze of the seed's split, its walker and its first target."""
        scene_rng, goal_rng, _ = seed.streams()
        return self.simulate(self.draw_scene(seed.split, scene_rng), goal_rng)

    def draw_scene(self, split: str, rng: np.random.Generator) -> Scene:
        """A maze of a split."""
        from wmkit_envs.maze3d.mazes import MazeShape, draw_maze

        scene = draw_maze(MazeShape(self.size, **MAZES[self.size]), split, rng)
        return dataclasses.replace(scene, palette=rng.permutation(scene.palette)) if self.six_colors else scene

    def walk(self, seed: EpisodeSeed, length: int) -> Simulation:
        """Wander for exactly `length` observations."""
        from wmkit_envs.maze3d.mazes import wander

        simulation = self.begin(seed)
        wander(simulation, length, seed.streams()[2])
        return simulation

    def draw(self, scene: Scene, trajectory: Trajectory) -> NDArray[np.uint8]:
        """Images (T, H, W, 3) of what was seen, with the oracle's map if there is one."""
        images = super().draw(scene, trajectory)
        if self.oracle:
            from wmkit_envs.maze3d.oracle import draw_maps

            draw_maps(images, scene, trajectory)
        return images


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryMaze(RayMaze):
    """The mazes of `RayMaze` in MuJoCo: Memory Maze itself, with its physics and pictures, and its variants."""

    choices: ClassVar[dict[str, tuple[str, ...]]] = {"renderer": ("mujoco",), "physics": ("mujoco",)}
    elsewhere: ClassVar[str] = " (ray-cast mazes: ray_maze)"
    renderer: str = "mujoco"
    """Always MuJoCo; for the ray caster take `RayMaze`."""
    physics: str = "mujoco"
    """Always MuJoCo."""
    frequency: int = 4
    """Steps per second, 4 or 40 ("HiFreq"); an episode takes as long, and has as many more steps."""
    visible: bool = False
    """Low walls, and the objects above them ("Vis")."""
    from_above: bool = False
    """The picture shows the whole maze from above, and the walker in it ("Top")."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frequency not in (4, 40) or not isinstance(self.frequency, int):
            raise ValueError(f"frequency: expected 4 or 40 steps per second, got {self.frequency!r}")

    @property
    def walls_hide(self) -> bool:
        return not (self.visible or self.from_above)

    @property
    def stem(self) -> str:
        return f"memory_maze_{self.size}x{self.size}"

    @property
    def episode_length(self) -> int:
        return 125 * self.frequency * (self.size - 7) + 1

    def draw_scene(self, split: str, rng: np.random.Generator) -> Scene:
        """The maze that `RayMaze` draws."""
        return dataclasses.replace(super().draw_scene(split, rng), raised=self.visible)

    def put_ball(self, scene: Scene) -> Body:
        """MuJoCo's ball at the scene's start, moved `frequency` times a second."""
        from wmkit_envs.maze3d.mujoco.walker import Ball

        return Ball(scene, self.frequency)

    def walk(self, seed: EpisodeSeed, length: int) -> Simulation:
        """Wander for at least `length` observations, deciding four times a second."""
        from wmkit_envs.maze3d.mazes import wander

        simulation = self.begin(seed)
        wander(simulation, length, seed.streams()[2], repeats=self.frequency // 4)
        return simulation

    def find_renderer(self) -> Renderer:
        """MuJoCo by one of its two cameras."""
        from wmkit_envs.maze3d.mujoco.renderer import render

        return partial(render, from_above=self.from_above)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rooms(RayWorld):
    """Rooms in a ring, objects, and the policy of the S4WM data (`wmkit_envs.maze3d.tour`); reward is always 0.

    With `teleport` the query is a copy of a part of the context: the action noop marks the teleport, the observation
    after it is the context's number `copy_index`, and from there actions and observations are those of the context, to
    the bit. Such episodes are generated only: nobody else's actions can lead through them.
    """

    in_stem: ClassVar[tuple[str, ...]] = ("rooms", "teleport", "longer")
    rooms: int = 2
    """2, 4 or 10, as published."""
    teleport: bool = False
    """The query is a copy of a part of the context."""
    longer: bool = False
    """The query is as long as in the published sets for tests of longer generation, which 2 and 4 rooms have."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rooms not in USUAL:
            raise ValueError(f"rooms: expected one of {', '.join(map(str, USUAL))}, got {self.rooms!r}")
        if self.longer and (self.teleport or self.rooms not in LONGER):
            raise ValueError(f"longer: expected False with rooms={self.rooms}, teleport={self.teleport}, got True")

    @property
    def stem(self) -> str:
        number = {2: "two", 4: "four", 10: "ten"}[self.rooms]
        return f"ray_{number}_rooms{'_teleport' * self.teleport}{'_longer' * self.longer}"

    @property
    def timetable(self) -> Timetable:
        """When the walk changes rooms."""
        return (TELEPORT if self.teleport else LONGER if self.longer else USUAL)[self.rooms]

    @property
    def episode_length(self) -> int:
        return self.timetable.context + self.timetable.query

    @property
    def context_length(self) -> int:
        return self.timetable.context

    def begin(self, seed: EpisodeSeed) -> Simulation:
        """The fixed layout with its objects and wall styles; touching objects has no effect."""
        from wmkit_envs.maze3d.rooms import draw_rooms

        return self.simulate(draw_rooms(self.rooms, seed.streams()[0]), goal_rng=None)

    def walk(self, seed: EpisodeSeed, length: int) -> Simulation:
        """The whole walk, up to a teleport, whatever the length."""
        from wmkit_envs.maze3d.tour import walk_tour

        return walk_tour(lambda: self.begin(seed), self.timetable, seed.streams()[2])

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode, see `RayWorld.generate`; the truth has also `room` (T,), see `maze3d.simulation`.

        With `teleport` also `copy_index` () and `source_index` (T,) int64: observation t shows what `source_index[t]`
        showed, which in the context is t itself.
        """
        length = self.checked_length(length)
        walked = super().generate(seed=seed, split=split, index=index, length=min(length, self.timetable.last_step + 1))
        if self.timetable.copies is None:
            return walked
        low, high = self.timetable.copies
        copy_index = int(EpisodeSeed(seed, split, index).streams()[1].integers(low, high + 1))
        here = np.arange(length)
        source = np.where(here < self.context_length, here, here - self.context_length + copy_index)
        steps = {key: value[source] for key, value in walked.steps.items()}
        steps["action"][self.context_length : self.context_length + 1] = np.arange(self.action_dim) == 0  # a noop
        steps["source_index"] = source
        return Episode(steps, {**walked.constants, "copy_index": np.array(copy_index, np.int64)})
