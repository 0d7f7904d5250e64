"""The worlds as Gymnasium environments: the same stepper and renderer as `generate`, driven by the caller's actions."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.simulation import Simulation, constant_truth, images, step_truth
from wmkit_envs.maze3d.worlds import RayWorld, Rooms
from wmkit_envs.world import METADATA, EpisodeSeed, check_action, check_render_mode, checked_options, next_seed

Image = NDArray[np.uint8]


class RayEnv(gymnasium.Env[Image, np.int64]):
    """A ray-cast world; observations are images (H, W, 3) uint8, actions the six of `wmkit_envs.maze3d.kinematics`.

    `reset(seed=s)` begins the episode that `world.generate(seed=s)` makes; `options={"split": "test", "index": 7}`
    picks another of that seed. A `reset()` without a seed goes on to the next index. `info` holds `is_first` and the
    ground truth of `wmkit_envs.maze3d.simulation`. Episodes never terminate and are truncated at the world's length.

    `settings` are other ones of the world, such as `image_size=128`. Raises `TypeError` for what is no setting, and
    `ValueError` for settings that make no world, a world of teleports, an unknown split, option or render mode, and a
    negative seed.
    """

    metadata = METADATA

    def __init__(self, world: RayWorld, render_mode: str | None = None, **settings: Any) -> None:
        check_render_mode(render_mode)
        self.world = world.with_settings(**settings)
        if isinstance(self.world, Rooms) and self.world.teleport:
            raise ValueError(
                f"{self.world.name} has no environment: its query repeats what was recorded. Take world.generate(), or "
                "teleport=False."
            )
        self.render_mode = render_mode
        channels, height, width = self.world.image_shape
        self.observation_space = gymnasium.spaces.Box(0, 255, (height, width, channels), np.uint8)
        self.action_space: gymnasium.spaces.Discrete = gymnasium.spaces.Discrete(self.world.action_dim)
        self._seed: EpisodeSeed | None = None
        self._simulation: Simulation | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Image, dict[str, Any]]:
        """Begin an episode; see the class for seeds and options."""
        self._seed = next_seed(self._seed, seed, checked_options(options), self.np_random)
        super().reset(seed=None if seed is None else int(seed))
        self._simulation = self.world.begin(self._seed)
        return self._look(), self._info(is_first=True)

    def step(self, action: np.int64) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """One step of 0.25 s: image, reward, never terminated, truncated at the world's length, ground truth."""
        simulation = self._running()
        check_action(self.action_space, action)
        reward = simulation.step(int(action))
        truncated = len(simulation) >= self.world.episode_length
        return self._look(), reward, False, truncated, self._info(is_first=False)

    def render(self) -> Image | None:
        """The present image in render mode "rgb_array", else None."""
        return self._look() if self.render_mode == "rgb_array" else None

    def _running(self) -> Simulation:
        if self._simulation is None:
            raise ValueError("call reset() before step() or render()")
        return self._simulation

    def _look(self) -> Image:
        simulation = self._running()
        return images(simulation.scene, simulation.now(), self.world.image_shape[1:])[0]

    def _info(self, is_first: bool) -> dict[str, Any]:
        """Fresh copies, so that a caller may keep or change them."""
        simulation = self._running()
        changing = step_truth(simulation.scene, simulation.now())
        now = {key: value[0] for key, value in changing.items()}
        return {"is_first": np.array(is_first), **now, **constant_truth(simulation.scene)}
