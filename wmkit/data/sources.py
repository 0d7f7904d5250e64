"""One name for any source: a world, an archive or a cache."""

from __future__ import annotations

from pathlib import Path

from wmkit.data.source import EpisodeSource, GeneratedEpisodes
from wmkit.data.store.archive import EpisodeStore
from wmkit.data.store.cache import CachedEpisodes, is_cache
from wmkit.data.worlds import World


def open_source(
    what: str | Path | World,
    *,
    seed: int = 0,
    split: str = "train",
    length: int | None = None,
    num_episodes: int | None = None,
) -> EpisodeSource:
    """The archive or cache in the folder `what`, or the episodes that the world `what`, or of that name, generates.

    `seed`, `split`, `length` and `num_episodes` are for worlds; stored episodes are taken as they are, but another
    split than `split` is refused, so that a held-out set is never trained on by a slip.
    """
    if not isinstance(what, str | Path):
        return GeneratedEpisodes(what, seed=seed, split=split, length=length, num_episodes=num_episodes)
    path = Path(what)
    if not path.is_dir():
        return GeneratedEpisodes(str(what), seed=seed, split=split, length=length, num_episodes=num_episodes)
    stored = CachedEpisodes(path) if is_cache(path) else EpisodeStore(path)
    if not len(stored):
        raise ValueError(f"{path}: holds no episodes yet; its writer was stopped before the first one")
    if stored.origin.get("split", split) != split:
        raise ValueError(f"{path}: holds split {stored.origin['split']!r}, expected {split!r}")
    return stored
