"""Look Around: a walker turns in the middle of a room whose four walls have other colours in every episode.

The smallest world in three dimensions that asks for memory. A view shows one or two of the walls; the others must be
remembered, and which of them comes into view follows from the turns alone. Each wall has the same door in its middle,
so that every view tells how it is turned, if not which wall it is. Walls and floor are plain unless that is switched
off, and nothing moves but the walker, so that a small model learns it within minutes on a CPU. Source: our own design,
with Memory Maze's ball, camera and objects.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.scene import NUM_STYLES, OPEN, START_LIFT, Pose, Scene
from wmkit_envs.maze3d.worlds import RayWorld
from wmkit_envs.world import EpisodeSeed, split_of

if TYPE_CHECKING:
    from wmkit_envs.maze3d.simulation import Simulation

SIDE, MIDDLE = 3, 2
"""Cells along a side of the room, and the number of the middle one, the outer wall's corner being 0."""
DOOR = NUM_STYLES - 1
"""Style of the middle of each wall, the same in every episode; walls have the others."""
SHORTEST, LONGEST = 4, 24
"""Steps of a turn to one side; 20 are a whole revolution."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LookAround(RayWorld):
    """A room seen from its middle: turn and remember; reward is always 0.

    The walls have four of seven colours, two balls, one red and one green, lie in two of the corners. The world's own
    policy turns to one side for 4 to 24 steps, then to a side drawn anew, and so on. An environment takes all six
    actions.
    """

    choices: ClassVar[dict[str, tuple[str, ...]]] = {"renderer": ("raycast",), "physics": ("ball", "mujoco")}
    elsewhere: ClassVar[str] = " (MuJoCo's pictures have no doors: rooms renderer=mujoco)"
    image_size: int = 32
    """Pixels on a side of the image."""
    plain: bool = True
    """Walls and floor have no patterns, each is of one colour: simpler to learn."""

    @property
    def stem(self) -> str:
        return "ray_look_around"

    @property
    def context_length(self) -> int:
        return 101

    @property
    def episode_length(self) -> int:
        return self.context_length + 100

    def begin(self, seed: EpisodeSeed) -> Simulation:
        """A room of the seed's split, the walker in its middle."""
        rng = seed.streams()[0]
        while (
            True
        ):  # counter-clockwise from the lower wall: its colour, and the ball in the corner after it, 0 for none
            room = np.stack([rng.permutation(DOOR)[:4], rng.permutation([0, 0, 1, 2])])
            if split_of(min(np.roll(room, turns, axis=1).tobytes() for turns in range(4))) == seed.split:
                break  # a room that is another one turned around looks like it, and belongs to its split
        walls = four_walls(room[0])
        near, far = 0.5, SIDE - 0.5
        corners = np.array([(far, near), (far, far), (near, far), (near, near)])
        balls = [int(np.flatnonzero(room[1] == ball)[0]) for ball in (1, 2)]
        start = Pose(SIDE / 2, SIDE / 2, rng.uniform(-math.pi, math.pi), START_LIFT)
        floors = np.zeros_like(walls, np.uint8)
        return self.simulate(Scene(walls, floors, corners[balls], start, sides=room[0]), goal_rng=None)

    def walk(self, seed: EpisodeSeed, length: int) -> Simulation:
        """Turn one way and the other for exactly `length` observations."""
        from wmkit_envs.maze3d.kinematics import LEFT, RIGHT

        simulation, rng = self.begin(seed), seed.streams()[2]
        while len(simulation) < length:
            action = (LEFT, RIGHT)[int(rng.integers(2))]
            for _ in range(min(int(rng.integers(SHORTEST, LONGEST + 1)), length - len(simulation))):
                simulation.step(action)
        return simulation


def four_walls(styles: NDArray[np.int64]) -> NDArray[np.int8]:
    """`Scene.walls` of the room, its walls in these styles (4,), counter-clockwise from the lower one."""
    walls = np.full((SIDE + 2, SIDE + 2), OPEN, np.int8)
    walls[0], walls[1:-1, -1], walls[-1], walls[1:-1, 0] = styles
    walls[MIDDLE, [0, -1]] = walls[[0, -1], MIDDLE] = DOOR
    return walls
