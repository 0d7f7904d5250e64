"""Print the trivial baselines of docs/worlds.md: python recipes/world_baselines.py [world]"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation.measures.doors import KEYS, STATE, TileTruth, image_of, remembered_map
from wmkit.evaluation.measures.frames import frame_error
from wmkit.evaluation.predictors import COPY_LAST, RANDOM_FRAME, Clips, make_baselines, mean_image
from wmkit.pipe import ends_with_reader
from wmkit_envs import DistractingMemory, MultiDoorsKeys, RayMaze, Rooms, World
from wmkit_envs.grid.scene import DONE
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.world import Episode, EpisodeSeed

SEED = 0
TILE_EPISODES, RAY_EPISODES = 60, 20
"""Test episodes whose frames are compared, and as many training episodes for the mean image."""
REWARDS, WALKS = 10_000, 1_000
"""Test episodes whose last reward, or whose length of the query walk, counts."""
TRAINED, TESTED = (5_000, 50_000, 100_000), 256
"""Episodes looked for in each other; episodes are the same when their tiles and actions are."""
AT_ONCE = 500
"""Episodes generated together."""
ERROR = "squared error per query frame"

Figures = Iterator[tuple[str, float]]


@ends_with_reader
def main() -> None:
    """Every figure of the named world, or of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    checks = {world.name: (world, found) for world, found in CHECKS.items()}
    parser.add_argument("world", nargs="?", choices=checks)
    chosen = parser.parse_args().world
    for name in checks if chosen is None else [chosen]:
        print(name)
        world, of_world = checks[name]
        for check in of_world:
            for what, figure in check(world):
                print(f"  {what:<70} {figure:10,{'.4g' if figure < 10_000 else '.0f'}}", flush=True)


def frames(world: World) -> Figures:
    """Errors of predictions that need no model."""
    count, context = TILE_EPISODES if isinstance(world, GridWorld) else RAY_EPISODES, world.context_length
    yield "test episodes", count
    batch, mean = episodes(world, "test", count), training_mean(world, count)
    image, baselines = batch.image, make_baselines(Clips(batch, context, mean, torch.Generator().manual_seed(SEED)))
    predictions = {
        f"mean image of {count} training episodes": mean,
        "last context frame": torch.stack([baselines[COPY_LAST](row) for row in range(count)]),
        "previous frame": image[:, context - 1 : -1],
        "another episode's frame": torch.stack([baselines[RANDOM_FRAME](row) for row in range(count)]),
    }
    for name, prediction in predictions.items():
        yield f"{ERROR}: {name}", mean_error(prediction, image[:, context:])


def doors(world: World) -> Figures:
    """The map as the context showed it, and whether doors are open: all of them, and those that reports judge."""
    assert isinstance(world, GridWorld)
    context, length = world.context_length, world.episode_length
    query = episodes(world, "test", TILE_EPISODES, KEYS).window(context, length)
    remembered = image_of(remembered_map(query), torch.tensor(world.atlas))
    yield f"{ERROR}: the map as the context showed it", mean_error(remembered, query.image)
    truth = TileTruth.of(query)
    share = truth.is_open.float().mean((0, 2))
    yield "percentage open, all doors, whole query", 100 * float(share.mean())
    yield "percentage right, the more frequent at each step", 100 * float(share.maximum(1 - share).mean())
    yield "percentage open, doors in view, until the walk ends", 100 * float(truth.is_open[truth.shown].float().mean())
    majority = truth.judge_majority()[STATE.name].nanmean(1)  # (N,)
    yield "percentage right, the more frequent at each step", 100 * float(majority.nanmean())


def walks(world: World) -> Figures:
    """The query's actions before it is filled up."""
    assert isinstance(world, GridWorld)
    queries = [world.script(EpisodeSeed(SEED, "test", index))[world.context_length - 1 :] for index in range(WALKS)]
    steps = [(query != DONE).sum() for query in queries]
    yield f"steps of the query before it is filled up, {WALKS} test episodes", float(np.mean(steps))


def rewards(world: World) -> Figures:
    """How often the last reward is 1, and 0."""
    ones = np.concatenate([part["reward"][:, -1] for part in parts(world, "test", REWARDS)]).mean()
    yield f"percentage right among {REWARDS} last rewards: always 1", 100 * float(ones)
    yield f"percentage right among {REWARDS} last rewards: always 0", 100 * float(1 - ones)


def repeats(world: World) -> Figures:
    """How many episodes differ, and how many of the test were trained on."""
    trained, tested = (
        [episode for part in parts(world, split, count) for episode in fingerprints(part)]
        for split, count in (("train", TRAINED[-1]), ("test", TESTED))
    )
    for count in TRAINED:
        known = set(trained[:count])
        yield f"different ones among {count} training episodes", len(known)
        yield f"of {TESTED} test episodes are among them", sum(episode in known for episode in tested)


def episodes(world: World, split: str, count: int, keys: tuple[str, ...] = ()) -> Batch:
    """Episodes 0..count-1 of a split."""
    source = GeneratedEpisodes(world, seed=SEED, split=split, num_episodes=count)
    return next(iter(WholeEpisodes(source, count, shuffle=False, epochs=1, keys=keys)))


def training_mean(world: World, count: int) -> Tensor:
    """The mean image (C, H, W) of `count` training episodes, of which one is kept at a time."""
    source = GeneratedEpisodes(world, seed=SEED, num_episodes=count)
    batches = WholeEpisodes(source, 1, shuffle=False, epochs=1)
    return torch.stack([mean_image(batch.image) for batch in batches]).mean(dim=0)


def mean_error(prediction: Tensor, query: Tensor) -> float:
    """Mean of the squared errors over frames, which are sums over pixels and channels."""
    return float(frame_error(prediction, query).double().mean())


def parts(world: World, split: str, count: int) -> Iterator[Episode]:
    """Arrays of episodes 0..count-1, `AT_ONCE` at a time, without pictures."""
    assert isinstance(world, GridWorld)
    for start in range(0, count, AT_ONCE):
        yield world.generate_batch(seed=SEED, split=split, indices=range(start, min(count, start + AT_ONCE)))


def fingerprints(part: Episode) -> list[bytes]:
    """For each episode a digest of its tiles and actions."""
    actions = part["action"].argmax(-1).astype(np.uint8)
    return [
        hashlib.sha256(tiles.tobytes() + row.tobytes()).digest()
        for tiles, row in zip(part["tiles"], actions, strict=True)
    ]


CHECKS: dict[World, tuple[Callable[[World], Figures], ...]] = {
    RayMaze(size=9): (frames,),
    **{Rooms(rooms=rooms): (frames,) for rooms in (2, 4, 10)},
    DistractingMemory(width=16): (rewards, repeats),
    DistractingMemory(width=100): (frames,),
    MultiDoorsKeys(keys=2): (repeats,),
    MultiDoorsKeys(keys=3): (frames, doors, walks, repeats),
    MultiDoorsKeys(keys=5): (frames, doors, walks),
    MultiDoorsKeys(keys=7): (frames, doors, walks),
}
"""What is printed of each world."""


if __name__ == "__main__":
    main()
