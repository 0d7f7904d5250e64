"""What the tile worlds share: episodes are played by the compiled rules and kept as tile numbers."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.grid.scene import MAX_TILE, MIN_TILE, NUM_ACTIONS, VIEW, GridScene
from wmkit_envs.world import Arrays, Episode, EpisodeSeed, World, check_integer


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridWorld(World):
    """A world seen as 5x5 tiles around the agent, north up. Subclasses draw the scene and write the script.

    Actions are MiniGrid's seven, one-hot (guess: the paper does not say how wide its actions are).
    """

    action_dim: ClassVar[int] = NUM_ACTIONS
    tile: int = 8
    """Pixels on a tile's side, 4 to 64; images have five times as many. Published: 8."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("tile", self.tile, MIN_TILE, MAX_TILE)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 3, VIEW * self.tile, VIEW * self.tile

    @property
    def atlas(self) -> NDArray[np.uint8]:
        """(30, ts, ts, 3) images of the tiles."""
        from wmkit_envs.grid.atlas import make_atlas

        return make_atlas(self.tile)

    @property
    def registration(self) -> dict[str, Any]:
        """Entry points for `gymnasium.register`."""
        return {
            "entry_point": "wmkit_envs.grid.env:GridEnv",
            "vector_entry_point": "wmkit_envs.grid.vector_env:GridVectorEnv",
        }

    @abc.abstractmethod
    def begin(self, seed: EpisodeSeed) -> GridScene:
        """The map, and where the agent starts."""

    @abc.abstractmethod
    def script(self, seed: EpisodeSeed) -> NDArray[np.int64]:
        """(episode_length - 1,) the actions of the world's own policy."""

    @abc.abstractmethod
    def step_truth(self, watched: NDArray[np.uint8], keys: NDArray[np.uint8]) -> Arrays:
        """Ground truth (..., n) besides the pose, from the watched cells (..., K) and the keys held (..., 6)."""

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode, see `World.generate`; with `tiles` (T, 5, 5) uint8 and the `atlas` behind `image`."""
        from wmkit_envs.grid.atlas import render_tiles

        batch = self.generate_batch(seed=seed, split=split, indices=[index], length=length)
        steps, constants = ({key: value[0] for key, value in group.items()} for group in (batch.steps, batch.constants))
        image = render_tiles(steps["tiles"], self.atlas)
        return Episode({"image": image, **steps}, {**constants, "atlas": self.atlas.copy()})

    def generate_batch(
        self, *, seed: int, split: str = "train", indices: Iterable[int], length: int | None = None
    ) -> Episode:
        """The episodes `indices` at once, each array, constants too, with a leading axis B; no pictures.

        Row b is what `generate(index=indices[b])` gives, less `image` and `atlas` (see `render_tiles`). Raises as
        `generate` does.
        """
        from wmkit_envs.grid.engine import play

        seeds = [EpisodeSeed(seed, split, index) for index in indices]
        if not seeds:
            raise ValueError("indices: expected at least one, got none")
        length = self.checked_length(length)
        scenes = [self.begin(seed) for seed in seeds]
        actions = np.stack([self.script(seed) for seed in seeds])[:, : length - 1]  # (B, T - 1)
        record = play(scenes, actions)
        batch = len(seeds)
        one_hot = np.zeros((batch, length, self.action_dim), np.float32)
        one_hot[:, 1:] = actions[..., None] == np.arange(self.action_dim)
        steps: Arrays = {
            "tiles": record.tiles,
            "action": one_hot,
            "reward": record.reward,
            "is_first": np.broadcast_to(np.arange(length) == 0, (batch, length)).copy(),
            "is_terminal": record.terminal,
            **pose_truth(record.pose),
            **self.step_truth(record.watched, record.keys),
        }
        context = np.full(batch, min(self.context_length, length), np.int64)
        facts = {key: np.stack([scene.facts[key] for scene in scenes]) for key in scenes[0].facts}
        return Episode(steps, {"context_length": context, **facts})


def pose_truth(pose: NDArray[np.int64]) -> Arrays:
    """`agent_pos` in cells and `agent_dir` as a unit vector, (..., 2) float32 each, of poses (..., 3)."""
    vectors = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], np.float32)
    return {"agent_pos": pose[..., :2].astype(np.float32), "agent_dir": vectors[pose[..., 2]]}


def info_facts(scene: GridScene) -> Arrays:
    """Copies of the scene's facts for an environment's `info`: all but the map, which is as large as the world."""
    return {key: value.copy() for key, value in scene.facts.items() if key != "map_tiles"}
