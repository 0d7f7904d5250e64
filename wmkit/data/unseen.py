"""Test episodes that a run cannot have seen: a world of few maps repeats its episodes, in other splits too."""

from __future__ import annotations

import hashlib

from wmkit.data.episode import Episode
from wmkit.data.source import GeneratedEpisodes
from wmkit.data.worlds import World

LOOKED_AT = 20_000
"""Test episodes at most: a world that has shown no more unseen ones by then is taken to have none."""


class UnseenEpisodes:
    """Those of a world's test episodes whose numbers are `indices`, as a source."""

    def __init__(self, test: GeneratedEpisodes, indices: list[int]) -> None:
        self.test, self.indices = test, indices

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.test.image_shape

    @property
    def action_dim(self) -> int:
        """Width A of the action."""
        return self.test.action_dim

    @property
    def num_episodes(self) -> int:
        """How many."""
        return len(self.indices)

    def episode_length(self, index: int) -> int:
        """Observations in episode `index`."""
        return self.test.episode_length(self.indices[index])

    def episode(self, index: int) -> Episode:
        """The arrays of episode `index`."""
        return self.test.episode(self.indices[index])


def unseen_episodes(
    world: World | str, count: int, beyond: int, seed: int = 0, length: int | None = None
) -> UnseenEpisodes:
    """The first `count` test episodes that are none of episodes 0..beyond-1 of the split `train`.

    Two episodes are the same when their images and actions are. `seed` is that of the run's data, `length` that of its
    episodes. Generates all of the `beyond` episodes once. Raises `ValueError` where the world has too few unseen ones.
    """
    train, test = (GeneratedEpisodes(world, seed=seed, split=split, length=length) for split in ("train", "test"))
    known = {_digest(train.episode(index)) for index in range(beyond)}
    unseen: list[int] = []
    for index in range(LOOKED_AT):
        if len(unseen) == count:
            break
        if _digest(test.episode(index)) not in known:
            unseen.append(index)
    if len(unseen) < count:
        raise ValueError(
            f"{test.world.name}: of the first {LOOKED_AT:,} test episodes {len(unseen)} are not among {beyond:,} of "
            f"training, expected {count}. Take a larger world."
        )
    return UnseenEpisodes(test, unseen)


def _digest(episode: Episode) -> bytes:
    return hashlib.sha256(episode["image"].tobytes() + episode["action"].tobytes()).digest()
