"""The tile worlds as MiniGrid environments: MiniGrid's grid, objects, steps and images, with a view of their own.

Nothing of the compiled engine is used here but the order of its tiles: the two are checked against each other.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from minigrid.core.constants import COLOR_TO_IDX, COLORS, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Door, Key, Wall, WorldObj
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray

from wmkit_envs.grid.scene import COLOR_NAMES, EMPTY, KEY, LOCKED, NUM_COLORS, OPEN, SQUARE, VIEW, WALL
from wmkit_envs.grid.world import GridWorld, info_facts, pose_truth
from wmkit_envs.world import METADATA, EpisodeSeed, check_action, check_render_mode, checked_options, next_seed

Image = NDArray[np.uint8]

UNLIMITED = 2**31
"""MiniGrid's own limit of steps, never reached."""


class Square(WorldObj):
    """A cell of one colour to walk over: looks like MiniGrid's goal, but entering it means nothing."""

    def __init__(self, color: str) -> None:
        super().__init__("floor", color)

    def can_overlap(self) -> bool:
        return True

    def encode(self) -> tuple[int, int, int]:
        """A goal's code: MiniGrid keeps images by it for all its environments, and draws floors otherwise."""
        return OBJECT_TO_IDX["goal"], COLOR_TO_IDX[self.color], 0

    def render(self, r: Image) -> Image:
        """Fill the image with the colour."""
        r[:] = COLORS[self.color]
        return r


class OneWayDoor(Door):
    """A locked door; toggling spends a key of its colour from `env.keys` and opens it for good."""

    def toggle(self, env: Any, pos: tuple[int, int]) -> bool:
        """Open, if `env.keys` has the key; says whether it did."""
        number = COLOR_NAMES.index(self.color)
        if not self.is_locked or not env.keys[number]:
            return False
        env.keys[number] -= 1
        self.is_locked, self.is_open = False, True
        return True


class GridEnv(MiniGridEnv):
    """A tile world; observations are images (5 tile, 5 tile, 3) uint8, actions are MiniGrid's seven.

    `reset(seed=s)` begins the episode that `world.generate(seed=s)` makes; `options={"split": "test", "index": 7}`
    picks another of that seed. A `reset()` without a seed goes on to the next index. `info` holds `is_first` and the
    ground truth of the world's episodes, but for the map and for what depends on earlier steps. `render()` shows the
    whole map. Episodes are truncated at the world's `time_limit`.

    `settings` are other ones of the world, `gymnasium.make(id, distractor_rate=0.2)`. Raises `TypeError` for what is no
    setting, and `ValueError` for settings that make no world, an unknown split, option or render mode, and a negative
    seed.
    """

    metadata = METADATA

    def __init__(
        self,
        world: GridWorld,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        check_render_mode(render_mode)
        self.world = world.with_settings(**settings)
        self.keys = np.zeros(NUM_COLORS, np.uint8)
        """Keys held, by colour."""
        self._seed: EpisodeSeed | None = None
        self._scene = self.world.begin(EpisodeSeed(0))
        height, width = self._scene.cells.shape
        super().__init__(
            MissionSpace(mission_func=lambda: self.world.name),
            width=width,
            height=height,
            max_steps=UNLIMITED,
            see_through_walls=True,
            agent_view_size=VIEW,
            render_mode=render_mode,
            highlight=False,
            tile_size=self.world.tile,
        )
        side = self.world.image_shape[1]
        self.action_space: gymnasium.spaces.Discrete = gymnasium.spaces.Discrete(self.world.action_dim)
        self.observation_space = gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; see the class for seeds and options."""
        self._seed = next_seed(self._seed, seed, checked_options(options), self.np_random)
        self._scene = self.world.begin(self._seed)
        self.keys = np.zeros(NUM_COLORS, np.uint8)
        image, _ = super().reset(seed=None if seed is None else int(seed))
        return image, self._info(is_first=True)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """MiniGrid's step; what moves goes on, a key that was picked up goes to `keys`, an exit ends the episode."""
        self._check_reset()
        check_action(self.action_space, action)
        for path in self._scene.movers:
            (old_x, old_y), (x, y) = (path[time % len(path)] for time in (self.step_count, self.step_count + 1))
            mover = self.grid.get(old_x, old_y)
            self.grid.set(old_x, old_y, None)
            self.grid.set(x, y, mover)
        image, *_ = super().step(action)
        if self.carrying is not None:
            self.keys[COLOR_NAMES.index(self.carrying.color)] += 1
            self.carrying = None
        success, failure = self._scene.exits
        here = tuple(int(coordinate) for coordinate in self.agent_pos)
        terminated = here in (success, failure)
        truncated = not terminated and self.step_count >= self.world.time_limit
        return image, float(here == success), terminated, truncated, self._info(is_first=False)

    def render(self) -> Any:
        """The whole map in render mode "rgb_array", else None; as in views the agent's own cell shows it alone."""
        self._check_reset()
        if self.render_mode is None:
            return None
        drawn: Any = self.grid.slice(0, 0, self.width, self.height)
        drawn.set(*self.agent_pos, None)
        return drawn.render(self.tile_size, self.agent_pos, self.agent_dir)

    def gen_obs(self) -> Image:
        """The 5x5 cells around the agent, north up, drawn by MiniGrid."""
        x, y = self.agent_pos
        view: Any = self.grid.slice(x - VIEW // 2, y - VIEW // 2, VIEW, VIEW)
        view.set(VIEW // 2, VIEW // 2, None)
        return view.render(self.tile_size, (VIEW // 2, VIEW // 2), self.agent_dir)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        for (y, x), tile in np.ndenumerate(self._scene.cells):
            self.grid.set(x, y, object_of(int(tile)))
        x, y, self.agent_dir = self._scene.start
        self.agent_pos = (x, y)
        self.mission = self.world.name

    def _check_reset(self) -> None:
        if self._seed is None:
            raise ValueError("call reset() before step() or render()")

    def _info(self, is_first: bool) -> dict[str, Any]:
        """Fresh copies, so that a caller may keep or change them; arrays, as vector environments and TorchRL ask."""
        watched = np.array([tile_of(self.grid.get(*cell)) for cell in self._scene.watched], np.uint8)
        pose = np.array([*self.agent_pos, self.agent_dir])
        changing = {**pose_truth(pose), **self.world.step_truth(pose, watched, self.keys.copy())}
        return {"is_first": np.array(is_first), **changing, **info_facts(self._scene)}


def object_of(tile: int) -> WorldObj | None:
    """MiniGrid's object for a tile of a map."""
    if tile in (EMPTY, WALL):
        return Wall() if tile == WALL else None
    kind = (tile - SQUARE) // NUM_COLORS
    color = COLOR_NAMES[(tile - SQUARE) % NUM_COLORS]
    return (Square(color), Key(color), OneWayDoor(color, is_locked=True), OneWayDoor(color, is_open=True))[kind]


def tile_of(thing: WorldObj | None) -> int:
    """The tile of a map for MiniGrid's object."""
    if thing is None or isinstance(thing, Wall):
        return EMPTY if thing is None else WALL
    first = {Square: SQUARE, Key: KEY, OneWayDoor: OPEN if getattr(thing, "is_open", False) else LOCKED}[type(thing)]
    return first + COLOR_NAMES.index(thing.color)
