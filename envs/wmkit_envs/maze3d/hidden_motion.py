"""Hidden Motion in three dimensions: the room of Look Around, in which balls roll round the walker all the time.

A ball is in view for some steps of each round and goes on while it is not. At step t it is at the angle
phase + 2 pi t / period on a circle round the walker, with one of a few periods, either way round: what the context
showed of it decides all that follows, whatever the walker does. Source: our own design; the question is that of
`wmkit_envs.grid.hidden_motion`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.look_around import DOOR, LONGEST, SHORTEST, SIDE, LookAround, four_walls
from wmkit_envs.maze3d.scene import OBJECT_COLORS, START_LIFT, Pose, Scene
from wmkit_envs.world import EpisodeSeed, check_integer, split_of

if TYPE_CHECKING:
    from wmkit_envs.maze3d.simulation import Simulation, Trajectory

RADIUS = 1.1
"""Of the circle, in cells: the balls clear the walls by a tenth of a cell."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RayHiddenMotion(LookAround):
    """No reward; what a look around shows of a ball depends on what was seen of it and on the time since.

    The walls are those of `LookAround`. The world's own policy turns to one side for 4 to 24 steps, then stands and
    watches for as many, and so on. An environment takes all six actions; balls roll through one another and through
    the walker.
    """

    balls: int = 2
    """1 to 6 of them, in the order of the objects' colours: red, green, ..."""
    periods: tuple[int, ...] = (24, 36, 60)
    """Steps of a whole round, at least 3: one of these, uniformly drawn for each ball, and either way round."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("balls", self.balls, 1, len(OBJECT_COLORS))
        if not isinstance(self.periods, tuple) or not self.periods:
            raise ValueError(f"periods: expected one or more numbers of steps, got {self.periods!r}")
        for period in self.periods:
            check_integer("periods", period, 3)
        if len(set(self.periods)) < len(self.periods):
            raise ValueError(f"periods: expected different ones, got {self.periods!r}")

    @property
    def stem(self) -> str:
        return "ray_hidden_motion"

    @property
    def context_length(self) -> int:
        return 151

    def begin(self, seed: EpisodeSeed) -> Simulation:
        """A room of the seed's split with its balls in motion, the walker in its middle."""
        rng = seed.streams()[0]
        while True:  # the walls, counter-clockwise from the lower one; periods, negative for clockwise
            styles = rng.permutation(DOOR)[:4]
            periods = rng.choice(self.periods, self.balls) * rng.choice((-1, 1), self.balls)
            walls = min(np.roll(styles, turns).tobytes() for turns in range(4))
            if split_of(walls + periods.tobytes()) == seed.split:
                break  # one that is turned around looks like it, and belongs to its split
        start = Pose(SIDE / 2, SIDE / 2, rng.uniform(-math.pi, math.pi), START_LIFT)
        phase = rng.uniform(-math.pi, math.pi, self.balls)
        scene = Scene(
            four_walls(styles),
            np.zeros((SIDE + 2, SIDE + 2), np.uint8),
            SIDE / 2 + RADIUS * np.stack([np.cos(phase), np.sin(phase)], axis=1),
            start,
            circling=2 * math.pi / periods,
            sides=styles,
        )
        return self.simulate(scene, goal_rng=None)

    def walk(self, seed: EpisodeSeed, length: int) -> Simulation:
        """Turn one way or the other, stand and watch, and so on for exactly `length` observations."""
        from wmkit_envs.maze3d.kinematics import LEFT, NOOP, RIGHT

        simulation, rng = self.begin(seed), seed.streams()[2]
        while len(simulation) < length:
            for action in ((LEFT, RIGHT)[int(rng.integers(2))], NOOP):
                for _ in range(min(int(rng.integers(SHORTEST, LONGEST + 1)), length - len(simulation))):
                    simulation.step(action)
        return simulation

    def draw(self, scene: Scene, trajectory: Trajectory) -> NDArray[np.uint8]:
        """Images (T, H, W, 3) of what was seen, each ball where it was by then."""
        from wmkit_envs.maze3d.raycast import render

        return render(scene, trajectory.poses, self.image_shape[1:], scene.objects_at(trajectory.steps))
