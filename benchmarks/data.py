"""Milliseconds a batch from the cache, the archive and the generator: python benchmarks/data.py [folder]

Batches of 8 whole episodes of 1001 frames (98 MB) and of 16 random windows of 50 frames, of ray_maze_9x9. Files are in
the page cache. The stored data is written below `folder` (default: a temporary one) and kept there.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from wmkit.data import (
    CachedEpisodes,
    EpisodeSource,
    EpisodeStore,
    GeneratedEpisodes,
    RandomWindows,
    Sampler,
    WholeEpisodes,
    build_cache,
    write_archive,
)

EPISODES = 16
WORLD = "ray_maze_9x9"


def stored(folder: Path) -> tuple[EpisodeStore, CachedEpisodes]:
    source = GeneratedEpisodes(WORLD, seed=0)
    began = time.perf_counter()
    store = write_archive(source, folder / "archive", EPISODES, workers=1)
    print(f"write_archive, {EPISODES} episodes: {time.perf_counter() - began:.1f} s (0.0 when they were there)")
    size = sum(file.stat().st_size for file in (folder / "archive").rglob("*") if file.is_file())
    print(f"archive: {size / sum(map(store.episode_length, range(EPISODES))):,.0f} bytes a frame, raw 12,288 and truth")
    began = time.perf_counter()
    store.verify()
    print(f"verify archive: {(time.perf_counter() - began) / EPISODES * 1e3:.1f} ms an episode")
    cache = CachedEpisodes(folder / "cache") if (folder / "cache").exists() else build_cache(store, folder / "cache")
    began = time.perf_counter()
    cache.verify()
    print(f"verify cache: {(time.perf_counter() - began) / EPISODES * 1e3:.1f} ms an episode")
    return store, cache


def time_batches(name: str, sampler: Sampler, count: int) -> None:
    times = []
    with sampler:
        for _ in range(count):
            began = time.perf_counter()
            batch = next(sampler)
            times.append(time.perf_counter() - began)
    later = times[2:]  # first touches, checksums and start-up are over by then
    frames = batch.shape[0] * batch.shape[1]
    print(
        f"{name:<34} first {times[0] * 1e3:>7.0f} ms   then median {statistics.median(later) * 1e3:>7.1f}, "
        f"mean {statistics.mean(later) * 1e3:>7.1f} ms a batch   {frames / statistics.mean(later):>10,.0f} frames/s"
    )


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="wmkit-bench-"))
    store, cache = stored(folder)
    generated = GeneratedEpisodes(WORLD, seed=0)
    cases: list[tuple[str, EpisodeSource, int]] = [
        ("cache", cache, 0),
        ("archive", store, 0),
        ("archive, 2 threads ahead", store, 2),
        ("stream", generated, 0),
        ("stream, 1 worker", generated, 1),
        ("stream, 2 workers", generated, 2),
    ]
    for name, source, workers in cases:
        time_batches(f"{name}: 8 x 1001", WholeEpisodes(source, 8, workers=workers), 7)
    for name, source, workers in cases:
        time_batches(f"{name}: 16 x 50", RandomWindows(source, 16, 50, workers=workers), 62)


if __name__ == "__main__":
    main()
