"""The worlds as Gymnasium environments: the same stepper and renderer as `generate`, driven by the caller's actions."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.observation import constant_truth, pictures, step_truth
from wmkit_envs.maze3d.simulation import Simulation
from wmkit_envs.maze3d.worlds import RayWorld
from wmkit_envs.world import METADATA, Draw, check_render_mode, checked_options, next_draw
from wmkit_envs.worlds import find_world

Picture = NDArray[np.uint8]


class RayEnv(gymnasium.Env[Picture, np.int64]):
    """A ray-cast world; observations are pictures (H, W, 3) uint8, actions the six of `wmkit_envs.maze3d.kinematics`.

    `reset(seed=s)` begins the episode that `generate(world, seed=s)` draws; `options={"split": "test", "index": 7}`
    picks another of that seed. A `reset()` without a seed goes on to the next index. `info` holds the ground truth of
    `wmkit_envs.maze3d.observation`. Episodes never terminate; `gymnasium.make` truncates them at the world's length.

    Raises `ValueError` for an unknown world, split, option or render mode, a negative seed, and a picture size that the
    ray caster does not draw.
    """

    metadata = METADATA

    def __init__(self, world: str, image_size: int = 64, render_mode: str | None = None) -> None:
        check_render_mode(render_mode)
        found = find_world(world)
        if not isinstance(found, RayWorld):
            raise ValueError(f"world: expected a ray-cast one, got {world!r}")
        self._world = dataclasses.replace(found, image_shape=(3, image_size, image_size))
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(self._world.action_dim)
        self._draw: Draw | None = None
        self._simulation: Simulation | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Picture, dict[str, NDArray[Any]]]:
        """Begin an episode; see the class for seeds and options."""
        self._draw = next_draw(self._draw, seed, checked_options(options), self.np_random)
        super().reset(seed=seed)
        self._simulation = self._world.begin(self._draw)
        return self._look(), self._truth()

    def step(self, action: np.int64) -> tuple[Picture, float, bool, bool, dict[str, NDArray[Any]]]:
        """One step of 0.25 s: picture, reward, never terminated, never truncated here, ground truth."""
        reward = self._running().step(int(action))
        return self._look(), reward, False, False, self._truth()

    def render(self) -> Picture | None:
        """The present picture in render mode "rgb_array", else None."""
        return self._look() if self.render_mode == "rgb_array" else None

    def _running(self) -> Simulation:
        if self._simulation is None:
            raise ValueError("call reset() before step() or render()")
        return self._simulation

    def _look(self) -> Picture:
        simulation = self._running()
        return pictures(simulation.scene, simulation.now(), self._world.image_shape[1:])[0]

    def _truth(self) -> dict[str, NDArray[Any]]:
        """Fresh copies, so that a caller may keep or change them."""
        simulation = self._running()
        changing = step_truth(simulation.scene, simulation.now())
        return {key: value[0] for key, value in changing.items()} | constant_truth(simulation.scene)
