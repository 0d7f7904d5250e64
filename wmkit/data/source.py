"""Sources of episodes: anything that answers `episode(index)`."""

from __future__ import annotations

import json
from typing import Any, Protocol, runtime_checkable

from wmkit.data.episode import Episode
from wmkit.data.workers.server import generate
from wmkit.data.worlds import SPLITS, World, describe_world, find_world


@runtime_checkable
class EpisodeSource(Protocol):
    """Numbered episodes; `episode(i)` gives the same arrays every time and may be called from several threads."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def action_dim(self) -> int:
        """Width A of the action."""

    @property
    def num_episodes(self) -> int | None:
        """How many; None when there is no end."""

    def episode_length(self, index: int) -> int:
        """Observations in episode `index`, known without loading it."""

    def episode(self, index: int) -> Episode:
        """The arrays of episode `index`; see `wmkit.data.episode`."""


class GeneratedEpisodes:
    """Episodes made by a world when asked for; nothing is stored.

    Arguments:
        world: a world or its name.
        seed: the data set's seed; episode i of a split depends on (seed, split, i) alone.
        split: `train`, `valid` or `test`, drawn independently; a world with few episodes repeats some of them.
        length: only so many observations of each episode, from its first one on.
        num_episodes: a finite set of the first so many; None means no end.

    Raises `ValueError` for an unknown world or split and for a length that the world does not reach.

    """

    def __init__(
        self,
        world: World | str,
        *,
        seed: int,
        split: str = "train",
        length: int | None = None,
        num_episodes: int | None = None,
    ) -> None:
        self.world = find_world(world)
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {SPLITS}, got {split!r}")
        if length is not None and not 1 <= length <= self.world.episode_length:
            raise ValueError(f"length: {self.world.name} has 1 to {self.world.episode_length} steps, got {length}")
        self.seed, self.split, self.length, self.num_episodes = seed, split, length, num_episodes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.world.image_shape

    @property
    def action_dim(self) -> int:
        """Width A of the action."""
        return self.world.action_dim

    @property
    def origin(self) -> dict[str, Any]:
        """What the episodes depend on besides their index, in JSON's types."""
        return {
            "world": json.loads(json.dumps(describe_world(self.world))),
            "seed": self.seed,
            "split": self.split,
            "length": self.length,
        }

    def episode_length(self, index: int) -> int:
        """Observations in every episode."""
        return self.length or self.world.episode_length

    def episode(self, index: int) -> Episode:
        """Episode `index`, generated now."""
        return Episode(*generate(self.world, seed=self.seed, split=self.split, index=index, length=self.length))
