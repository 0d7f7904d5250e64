"""Sources of episodes: a world, an archive, a cache, or anything else that answers `episode(index)`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from wmkit.data.episode import Episode
from wmkit.data.store.archive import EpisodeStore
from wmkit.data.store.cache import CachedEpisodes, is_cache
from wmkit.data.worker import generate
from wmkit.data.worlds import SPLITS, World, describe_world, find_world
from wmkit.files import user_folder

LOOKED_AT = 20_000
"""Test episodes that `unseen_episodes` looks at: a world that has shown too few unseen ones by then has none."""


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


def open_source(
    what: str | Path | World,
    *,
    seed: int = 0,
    split: str = "train",
    length: int | None = None,
    num_episodes: int | None = None,
) -> EpisodeSource:
    """The archive or cache in the folder `what`, or the episodes of the world that `what` is or names.

    `seed`, `split`, `length` and `num_episodes` are for worlds; stored episodes are taken as they are, but another
    split than `split` is refused, so that a held-out set is never trained on by a slip.
    """
    path = user_folder(what) if isinstance(what, str | Path) else None
    if path is None or not path.is_dir():
        world = str(what) if isinstance(what, Path) else what
        return GeneratedEpisodes(world, seed=seed, split=split, length=length, num_episodes=num_episodes)
    inside = [part for part in SPLITS if (path / part / "zarr.json").exists()]
    if inside and not (path / "zarr.json").exists():
        say = path / (split if split in inside else inside[0])
        raise ValueError(f"{path}: holds the archives {', '.join(inside)}, expected one: say {say}")
    stored = CachedEpisodes(path) if is_cache(path) else EpisodeStore(path)
    if not len(stored):
        raise ValueError(f"{path}: holds no episodes yet; its writer was stopped before the first one")
    if stored.origin.get("split", split) != split:
        raise ValueError(f"{path}: holds split {stored.origin['split']!r}, expected {split!r}")
    return stored


class Subset:
    """Some episodes of a source: those whose numbers are `indices`."""

    def __init__(self, source: EpisodeSource, indices: Sequence[int]) -> None:
        self.source, self.indices = source, list(indices)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.source.image_shape

    @property
    def action_dim(self) -> int:
        """Width A of the action."""
        return self.source.action_dim

    @property
    def num_episodes(self) -> int:
        """How many."""
        return len(self.indices)

    def episode_length(self, index: int) -> int:
        """Observations in episode `index`."""
        return self.source.episode_length(self.indices[index])

    def episode(self, index: int) -> Episode:
        """The arrays of episode `index`."""
        return self.source.episode(self.indices[index])


def unseen_episodes(world: World | str, count: int, beyond: int, seed: int = 0, length: int | None = None) -> Subset:
    """The first `count` test episodes that are none of episodes 0..beyond-1 of the split `train`.

    A world of few maps repeats its episodes, in other splits too. Two episodes are the same when their images and
    actions are. `seed` is that of the run's data, `length` that of its episodes. Generates all of the `beyond` episodes
    once. Raises `ValueError` where the world has too few unseen ones.
    """
    train, test = (GeneratedEpisodes(world, seed=seed, split=split, length=length) for split in ("train", "test"))
    known = {digest_of(train.episode(index)) for index in range(beyond)}
    unseen: list[int] = []
    for index in range(LOOKED_AT):
        if len(unseen) == count:
            break
        if digest_of(test.episode(index)) not in known:
            unseen.append(index)
    if len(unseen) < count:
        raise ValueError(
            f"{test.world.name}: of the first {LOOKED_AT:,} test episodes {len(unseen)} are not among {beyond:,} of "
            f"training, expected {count}. Take a larger world."
        )
    return Subset(test, unseen)


def number_of_episodes(source: EpisodeSource, asked: int | None) -> int:
    """How many to take: those asked for, or all. Raises `ValueError` for all of a source that has no end."""
    number = source.num_episodes if asked is None else asked
    if number is None:
        raise ValueError("episodes: the source has no end of episodes, expected their number")
    return number


def digest_of(episode: Episode) -> bytes:
    """The same for two episodes with the same images and actions, and for no others."""
    return hashlib.sha256(episode["image"].tobytes() + episode["action"].tobytes()).digest()
