"""The worlds as Gymnasium environments: the same stepper and renderer as `generate`, driven by the caller's actions."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.simulation import Simulation, constant_truth, step_truth
from wmkit_envs.maze3d.worlds import MemoryMaze, RayWorld, Rooms
from wmkit_envs.world import METADATA, EpisodeSeed, check_action, check_render_mode, checked_options, next_seed

Image = NDArray[np.uint8]
Truth = dict[str, NDArray[Any]]


class RayEnv(gymnasium.Env[Image | Truth, np.int64]):
    """A 3D world; observations are images (H, W, 3) uint8, actions the six of `wmkit_envs.maze3d.kinematics`.

    `reset(seed=s)` begins the episode that `world.generate(seed=s)` makes; `options={"split": "test", "index": 7}`
    picks another of that seed. A `reset()` without a seed goes on to the next index. `info` holds `is_first` and the
    ground truth of `wmkit_envs.maze3d.simulation`. Episodes never terminate and are truncated at the world's length.

    With `extra_obs` an observation is a dict of `image` and the ground truth (Memory Maze's "ExtraObs").

    `settings` are other ones of the world, such as `image_size=128`. Raises `TypeError` for what is no setting, and
    `ValueError` for settings that make no world, a world of teleports, an unknown split, option or render mode, and a
    negative seed.
    """

    metadata = METADATA

    def __init__(
        self, world: RayWorld, render_mode: str | None = None, extra_obs: bool = False, **settings: Any
    ) -> None:
        check_render_mode(render_mode)
        self.world = world.with_settings(**settings)
        if isinstance(self.world, Rooms) and self.world.teleport:
            raise ValueError(
                f"{self.world.name} has no environment: its query repeats what was recorded. Take world.generate(), or "
                "teleport=False."
            )
        self.render_mode = render_mode
        if isinstance(self.world, MemoryMaze):
            self.metadata = METADATA | {"render_fps": self.world.frequency}
        self._extra_obs = extra_obs
        channels, height, width = self.world.image_shape
        image: gymnasium.Space[Any] = gymnasium.spaces.Box(0, 255, (height, width, channels), np.uint8)
        self.observation_space: gymnasium.Space[Any] = image
        if extra_obs:
            truth = _truth(self.world.begin(EpisodeSeed(0)))
            self.observation_space = gymnasium.spaces.Dict({"image": image} | _spaces(truth))
        self.action_space: gymnasium.spaces.Discrete = gymnasium.spaces.Discrete(self.world.action_dim)
        self._seed: EpisodeSeed | None = None
        self._simulation: Simulation | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Image | Truth, Truth]:
        """Begin an episode; see the class for seeds and options."""
        self._seed = next_seed(self._seed, seed, checked_options(options), self.np_random)
        super().reset(seed=None if seed is None else int(seed))
        self._simulation = self.world.begin(self._seed)
        return self._observe(), {"is_first": np.array(True), **_truth(self._simulation)}

    def step(self, action: np.int64) -> tuple[Image | Truth, float, bool, bool, Truth]:
        """One step: observation, reward, never terminated, truncated at the world's length, ground truth."""
        simulation = self._running()
        check_action(self.action_space, action)
        reward = simulation.step(int(action))
        truncated = len(simulation) >= self.world.episode_length
        return self._observe(), reward, False, truncated, {"is_first": np.array(False), **_truth(simulation)}

    def render(self) -> Image | None:
        """The present image in render mode "rgb_array", else None."""
        return self._look() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Let go of the episode, and of what MuJoCo holds for it; `reset` begins another."""
        self._simulation = None

    def _running(self) -> Simulation:
        if self._simulation is None:
            raise ValueError("call reset() before step() or render()")
        return self._simulation

    def _observe(self) -> Image | Truth:
        image = self._look()
        return {"image": image} | _truth(self._running()) if self._extra_obs else image

    def _look(self) -> Image:
        simulation = self._running()
        return self.world.draw(simulation.scene, simulation.now())[0]


def _truth(simulation: Simulation) -> Truth:
    """Fresh copies, so that a caller may keep or change them."""
    changing = step_truth(simulation.scene, simulation.now())
    return {key: np.array(value[0]) for key, value in changing.items()} | constant_truth(simulation.scene)


def _spaces(truth: Truth) -> dict[str, gymnasium.Space[Any]]:
    """For arrays like those of `truth`: places, ways and colours within twice the maze's sides; 0 and 1; rooms."""
    far = 2 * max(truth["maze_layout"].shape)
    ranges = {np.float32: (-far, far), np.uint8: (0, 1), np.int64: (-1, far)}
    return {
        key: gymnasium.spaces.Box(*ranges[value.dtype.type], value.shape, value.dtype) for key, value in truth.items()
    }
