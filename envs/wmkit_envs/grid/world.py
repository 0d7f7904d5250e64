"""What the tile worlds share: episodes are played by the compiled rules and kept as tile numbers.

Maps of small worlds repeat. A map therefore belongs to one split for good, by a checksum, and drawing goes on until one
of the episode's split comes up, as with the mazes (`wmkit_envs.maze3d.mazes`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.grid.scene import MAX_TILE, MIN_TILE, NUM_ACTIONS, VIEW, GridScene
from wmkit_envs.world import Arrays, Episode, EpisodeSeed, World, check_integer, split_of

FEWEST_MAPS = 64
"""A world of fewer maps has too few to divide: its splits share them."""
MAX_DRAWS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridWorld(World):
    """A world seen as 5x5 tiles around the agent, north up. Subclasses draw the map and write the script.

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

    def sized(self, image_size: int) -> dict[str, Any]:
        check_integer("image_size", image_size, VIEW * MIN_TILE, VIEW * MAX_TILE)
        if image_size % VIEW:
            raise ValueError(f"image_size: expected {VIEW} x tile, such as {VIEW * 8}, got {image_size}")
        return {"tile": image_size // VIEW}

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

    @property
    def time_limit(self) -> int:
        """Steps after which an environment truncates an episode."""
        return self.episode_length - 1

    @property
    @abc.abstractmethod
    def num_maps(self) -> int:
        """How many different maps there are, in all splits together; what moves by itself is part of the map."""

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> GridScene:
        """Any of the maps, and where the agent starts."""

    @abc.abstractmethod
    def walk(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """(episode_length - 1,) the actions of the world's own policy."""

    @abc.abstractmethod
    def step_truth(self, pose: NDArray[np.int64], watched: NDArray[np.uint8], keys: NDArray[np.uint8]) -> Arrays:
        """Ground truth besides the pose, from poses (..., 3), the watched cells (..., K), the keys held (..., 6)."""

    def past_truth(self, steps: Arrays) -> Arrays:
        """Ground truth (B, T, ...) that depends on earlier `steps` too: of generated episodes alone."""
        return {}

    def begin(self, seed: EpisodeSeed) -> GridScene:
        """A map of the seed's split."""
        rng = self._streams(seed)[0]
        shared = self.num_maps < FEWEST_MAPS
        for _ in range(MAX_DRAWS):
            scene = self.draw(rng)
            if shared or split_of(scene.cells.tobytes() + scene.movers.tobytes()) == seed.split:
                return scene
        raise ValueError(
            f"split: none of {MAX_DRAWS} maps of {self.name}, which has {self.num_maps}, belongs to {seed.split}; take "
            "more colours, or another size"
        )

    def script(self, seed: EpisodeSeed) -> NDArray[np.int64]:
        """(episode_length - 1,) the actions of the world's own policy in this episode."""
        return self.walk(self._streams(seed)[2])

    def _streams(self, seed: EpisodeSeed) -> tuple[np.random.Generator, ...]:
        """Other ones for other sizes, so that episodes of several sizes are independent samples."""
        return seed.streams(*(getattr(self, size) for size in self.in_stem))

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
            **self.step_truth(record.pose, record.watched, record.keys),
        }
        steps |= self.past_truth(steps)
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
