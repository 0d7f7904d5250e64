"""Many episodes of a tile world stepped together by the compiled rules: what `gymnasium.make_vec` makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from wmkit_envs.grid import engine
from wmkit_envs.grid.atlas import render_tiles
from wmkit_envs.grid.scene import AGENT, VIEW
from wmkit_envs.grid.world import GridWorld, info_facts, pose_truth
from wmkit_envs.world import METADATA, Arrays, EpisodeSeed, check_integer, check_render_mode, checked_options, next_seed

Images = NDArray[np.uint8]
Rows = NDArray[np.bool_]


class GridVectorEnv(VectorEnv[Images, NDArray[np.int64], NDArray[Any]]):
    """`num_envs` tile worlds at once: what SyncVectorEnv makes of `GridEnv`, pixel for pixel, without MiniGrid.

    `reset(seed=s)` begins the episodes of seeds s, s + 1, ..., or of a list of seeds; a row that ends goes on to the
    next index of its seed. `options`: `split`, `index`, and `reset_mask`, the rows to reset.
    `info["is_first"]`: which rows of the returned observations are an episode's first.

    Autoreset modes. `NEXT_STEP`: the step after an end ignores its action and returns the next episode's first
    observation, with reward 0. `SAME_STEP`: the step that ends an episode returns the next one's first observation, and
    what it ended with as `final_obs` and `final_info`. `DISABLED`: reset ended rows with `reset_mask`; stepping on
    without is a `ValueError`.

    Raises `ValueError` as `GridEnv` does.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        world: GridWorld,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        check_render_mode(render_mode)
        check_integer("num_envs", num_envs, 1)
        self.num_envs, self.world = num_envs, world.with_settings(**settings)
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = METADATA | {"autoreset_mode": self.autoreset_mode}
        side = self.world.image_shape[1]
        self.single_observation_space = Box(0, 255, (side, side, 3), np.uint8)
        self.single_action_space = Discrete(self.world.action_dim)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        limit = self.world.time_limit if max_episode_steps is None else max_episode_steps
        self._limit = np.inf if limit == -1 else limit  # Gymnasium's -1: no limit
        self._seeds: list[EpisodeSeed] = []
        self._steps = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)
        scenes = [self.world.begin(EpisodeSeed(0))] * num_envs
        self._state, self._watched = engine.begin(scenes), np.array(scenes[0].watched, np.int64).reshape(-1, 2)
        self._facts = {key: np.stack([value] * num_envs) for key, value in info_facts(scenes[0]).items()}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Images, dict[str, Any]]:
        """Begin episodes in all rows, or in those of `options["reset_mask"]`."""
        options = dict(options or {})
        rows = self._checked_rows(options.pop("reset_mask", None))
        seeds = self._checked_seeds(seed)
        super().reset(seed=int(seed) if isinstance(seed, int | np.integer) else None)
        self._restart(rows, seeds, checked_options(options))
        return self._look(), self._info(rows, is_first=rows)

    def step(self, actions: NDArray[np.int64]) -> tuple[Images, NDArray[np.float64], Rows, Rows, dict[str, Any]]:
        """One step of every row: images (B, H, W, 3), rewards, terminated, truncated (B,), info."""
        if not self._seeds:
            raise ValueError("call reset() before step()")
        whole = np.asarray(actions).dtype.kind in "iu"
        if not whole or not self.action_space.contains(np.asarray(actions, np.int64)):
            raise ValueError(f"actions: expected {self.num_envs} of 0..{self.world.action_dim - 1}, got {actions}")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            raise ValueError(f"rows {np.flatnonzero(self._ended).tolist()} have ended: reset them with a reset_mask")
        restarted = self._ended & (self.autoreset_mode == AutoresetMode.NEXT_STEP)
        self._restart(restarted, [None] * self.num_envs, {})
        rewards = np.empty(self.num_envs)
        engine.advance_all(self._state, np.asarray(actions, np.int64), ~restarted, rewards)
        self._steps += ~restarted
        terminated = self._state.over & ~restarted
        truncated = (self._steps >= self._limit) & ~restarted & ~terminated
        self._ended = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
            return self._end_and_restart(rewards, terminated, truncated)
        return self._look(), rewards, terminated, truncated, self._info(self._all, is_first=restarted)

    def render(self) -> tuple[Images, ...] | None:
        """The map of every row in render mode "rgb_array", else None."""
        if not self._seeds:
            raise ValueError("call reset() before render()")
        if self.render_mode is None:
            return None
        edge, (x, y, heading) = engine.MARGIN, self._state.pose.T
        maps = self._state.cells[:, edge:-edge, edge:-edge].copy()
        maps[np.arange(self.num_envs), y, x] = AGENT + heading
        return tuple(render_tiles(maps, self.world.atlas))

    @property
    def _all(self) -> Rows:
        return np.ones(self.num_envs, np.bool_)

    def _end_and_restart(
        self, rewards: NDArray[np.float64], terminated: Rows, truncated: Rows
    ) -> tuple[Images, NDArray[np.float64], Rows, Rows, dict[str, Any]]:
        """Keep what the ended rows saw last, then begin their next episodes."""
        ended = self._ended.copy()
        final_obs = np.full(self.num_envs, None, object)
        for row, image in zip(np.flatnonzero(ended), self._look()[ended], strict=True):
            final_obs[row] = image
        final_info = self._info(ended, is_first=np.zeros_like(ended))
        self._restart(ended, [None] * self.num_envs, {})
        info = self._info(self._all, is_first=ended)
        info |= {"final_obs": final_obs, "final_info": final_info, "_final_obs": ended, "_final_info": ended.copy()}
        return self._look(), rewards, terminated, truncated, info

    def _restart(self, rows: Rows, seeds: Sequence[int | None], options: dict[str, Any]) -> None:
        """Begin the next episodes of `rows`, in place of the rows' old ones."""
        if rows.any():
            last: Sequence[EpisodeSeed | None] = self._seeds or [None] * self.num_envs
            self._seeds = [
                next_seed(old, seed, options, self.np_random) if chosen or old is None else old
                for old, seed, chosen in zip(last, seeds, rows, strict=True)
            ]
        state: tuple[NDArray[Any], ...] = self._state
        for row in np.flatnonzero(rows):
            scene = self.world.begin(self._seeds[row])
            begun: tuple[NDArray[Any], ...] = engine.begin([scene])
            for array, value in zip(state, begun, strict=True):
                array[row] = value[0]
            for key, value in info_facts(scene).items():
                self._facts[key][row] = value
        self._steps[rows] = 0
        self._ended[rows] = False

    def _checked_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        """One seed, or none, per row."""
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            check_integer("seed", seed, 0)
            return [int(seed) + row for row in range(self.num_envs)]
        if isinstance(seed, str) or not isinstance(seed, Iterable):
            raise ValueError(f"seed: expected a whole number, or {self.num_envs} of them, got {seed!r}")
        seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed: expected one, or {self.num_envs} of them, got {len(seeds)}")
        for one in seeds:
            if one is not None:
                check_integer("seed", one, 0)
        return [None if one is None else int(one) for one in seeds]

    def _checked_rows(self, mask: Any) -> Rows:
        """The rows to reset: all at the first reset."""
        if mask is None:
            return self._all
        if (
            not isinstance(mask, np.ndarray)
            or mask.dtype != np.bool_
            or mask.shape != (self.num_envs,)
            or not mask.any()
        ):
            raise ValueError(
                f"reset_mask: expected a bool array ({self.num_envs},) with at least one True, got {mask!r}"
            )
        if not self._seeds and not mask.all():
            raise ValueError("reset_mask: the first reset must be of all rows")
        return mask

    def _look(self) -> Images:
        """What is seen in every row, (B, H, W, 3)."""
        tiles = np.empty((self.num_envs, VIEW, VIEW), np.uint8)
        engine.look_all(self._state, tiles)
        return render_tiles(tiles, self.world.atlas)

    def _info(self, rows: Rows, is_first: Rows) -> dict[str, Any]:
        """Ground truth of `rows`, zeros in others; `_key` says which rows have `key`, as everywhere in Gymnasium."""
        x, y = self._watched.T + engine.MARGIN
        truth = self.world.step_truth(self._state.pose, self._state.cells[:, y, x], self._state.keys)
        values: Arrays = {"is_first": is_first, **pose_truth(self._state.pose), **truth, **self._facts}
        info: dict[str, Any] = {}
        for key, value in values.items():
            info[key], info[f"_{key}"] = value.copy(), rows.copy()
            info[key][~rows] = 0
        return info
