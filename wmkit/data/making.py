"""Archives of a world's episodes, one for each split: what `wmkit data make` does."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from wmkit.checks import check_integer
from wmkit.data.folders import SHARES, Progress, origins_of, split_episodes
from wmkit.data.sources import GeneratedEpisodes
from wmkit.data.store.archive import EpisodeStore, read_index
from wmkit.data.store.writers import write_archive
from wmkit.data.worlds import World, find_world
from wmkit.files import user_folder


def make_archives(
    world: World | str,
    episodes: int,
    out: str | Path,
    *,
    split: Sequence[float] = SHARES,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, EpisodeStore]:
    """Write `episodes` episodes of a world to the archives `train`, `valid` and `test` in the folder `out`.

    split: shares of the number, as in `import_folder`. The world draws each split for itself: an archive holds the
    first episodes of its split, episode i being a function of (seed, split, i) alone. So the bytes do not depend on
    `workers`, nor on how often the call was stopped and made again, and a larger number goes on where a smaller ended.

    Raises `ValueError`, before anything is written, for an unknown world, numbers that are none, and archives in `out`
    of another world, of other settings or another seed, or of more episodes.
    """
    world = find_world(world)
    check_integer("episodes", episodes, 1)
    check_integer("seed", seed, 0)
    check_integer("workers", workers, 0)
    counts = {part: len(indices) for part, indices in split_episodes(episodes, split).items()}
    sources = {part: GeneratedEpisodes(world, seed=seed, split=part) for part in counts}
    about = next(iter(sources.values())).origin
    origins_of(out, counts, {key: about[key] for key in about if key != "split"})
    for part, count in counts.items():
        path = user_folder(out) / part
        held = len(read_index(path)["lengths"]) if (path / "zarr.json").exists() else 0
        if held > count:
            raise ValueError(
                f"{path}: holds {held} episodes already, expected {count} at most. Nothing was written: ask for more "
                "episodes, or name another folder"
            )
    return {
        part: write_archive(
            sources[part],
            user_folder(out) / part,
            count,
            workers=workers,
            progress=functools.partial(progress, f"making {part}"),
        )
        for part, count in counts.items()
    }
