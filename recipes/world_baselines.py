"""Print the trivial baselines of docs/worlds.md: python recipes/world_baselines.py [world]"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wmkit.batch import Batch
from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation.estimates import Estimate, normal
from wmkit.evaluation.levels.boundaries import by_chance
from wmkit.evaluation.measures.doors import KEYS, STATE, TileTruth, image_of, remembered_map
from wmkit.evaluation.measures.frames import frame_error
from wmkit.evaluation.measures.movers import KEYS as MOVER_KEYS
from wmkit.evaluation.predictors import COPY_LAST, FROZEN, RANDOM_FRAME, Clips, make_baselines, mean_image
from wmkit.pipe import ends_with_reader
from wmkit.probing.view import objects_in_view
from wmkit_envs import (
    BouncingBalls,
    DistractingMemory,
    HiddenMotion,
    LookAround,
    MultiDoorsKeys,
    RayHiddenMotion,
    RayMaze,
    Rooms,
    World,
)
from wmkit_envs.grid.hidden_motion import PERIOD, place_at
from wmkit_envs.grid.scene import DONE, PICK_UP, TOGGLE, TURN_LEFT, VIEW
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.maze3d.hidden_motion import RADIUS
from wmkit_envs.maze3d.look_around import SIDE
from wmkit_envs.maze3d.worlds import RayWorld
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

MAPS = (2_000, 200)
"""Training and test episodes whose maps are looked for in each other."""
MOVERS, FITTED = 1_000, 4_000
"""Test episodes in which movers are guessed, training episodes that the guessers may count in."""
ROLLING = 200
"""Test episodes in which balls are guessed."""
SEGMENTS = 500
"""Test episodes whose boundaries are counted."""

Figures = Iterator[tuple[str, float | Estimate]]


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
                shown = str(figure) if isinstance(figure, Estimate) else f"{figure:,{_format(figure)}}"
                print(f"  {what:<78} {shown:>12}", flush=True)


def _format(figure: float) -> str:
    return ".4g" if figure < 10_000 or figure > 1e15 else ".0f"


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


def maps(world: World) -> Figures:
    """How many maps there are, and how many of the test training has."""
    if isinstance(world, GridWorld):
        yield "different maps in all", world.num_maps
    trained, tested = (
        [map_of(world, EpisodeSeed(SEED, split, index)) for index in range(count)]
        for split, count in zip(("train", "test"), MAPS, strict=True)
    )
    yield f"different ones among those of {MAPS[0]} training episodes", len(set(trained))
    yield f"different ones among those of {MAPS[1]} test episodes", len(set(tested))
    yield "of these training has", len(set(tested) & set(trained))


def map_of(world: World, seed: EpisodeSeed) -> bytes:
    """What the checksum of splits is taken of; of Two Rooms the wall styles and the objects."""
    assert isinstance(world, GridWorld | RayWorld)
    if isinstance(world, GridWorld):
        grid = world.begin(seed)
        return grid.cells.tobytes() + grid.movers.tobytes()
    scene = world.begin(seed).scene
    if scene.circling is not None:
        return scene.walls.tobytes() + scene.circling.tobytes()
    return scene.layout.tobytes() if isinstance(world, RayMaze) else scene.walls.tobytes() + scene.objects.tobytes()


def movers(world: World) -> Figures:
    """Where every mover is, at the query's steps that show its whole track, guessed from what is known of it."""
    assert isinstance(world, HiddenMotion)
    start = world.context_length
    batch = world.generate_batch(seed=SEED, split="test", indices=range(MOVERS))
    place, shown = places(batch)
    trained, seen = places(world.generate_batch(seed=SEED, indices=range(FITTED)))
    counts = np.stack([((trained == cell) & seen).sum(0) for cell in range(VIEW)])  # (5, T, M)

    # all there is: every pace and phase, and the first of them that fits what the context showed
    motions = [(pace, phase) for pace in world.paces for phase in range(PERIOD * pace)]
    time = np.arange(world.episode_length)
    futures = np.stack([place_at(time, np.array(pace), np.array(phase)) for pace, phase in motions])  # (F, T)
    in_view = batch["mover_in_view"][:, :start]  # (B, C, M)
    misses = ((futures[:, None, :start, None] != place[:, :start]) & in_view).sum(2)  # (F, B, M)
    fitted = futures[misses.argmin(0)].transpose(0, 2, 1)  # (B, T, M)

    last = batch["mover_last_seen"][:, start - 1]  # (B, M)
    paces, phases = np.array(motions)[misses.argmin(0)].transpose(2, 0, 1)  # (B, M) each
    usual = sorted(world.paces)[len(world.paces) // 2]
    gone_on = place_at((last + phases) // paces * usual + time[:, None, None] - last, np.array(usual), np.array(0))
    guesses = {
        "a cell at random": np.random.default_rng(SEED).integers(VIEW, size=place.shape),
        "majority: the most frequent cell": np.broadcast_to(counts.sum((1, 2)).argmax(), place.shape),
        f"actions only: the most frequent cell at that step in {FITTED} training episodes": counts.argmax(0)[None],
        "frozen: the cell where the context saw it last": np.take_along_axis(place, last[:, None], 1),
        f"last seen, then on at the middle pace, {usual} steps a cell": gone_on.transpose(1, 0, 2),
        "extrapolated: the motion that fits what the context showed": fitted,
    }
    judged = shown & (time >= start)[:, None]
    yield "test episodes", MOVERS
    for name, guess in guesses.items():
        right = ((guess == place) & judged).sum((1, 2)) / judged.sum((1, 2))
        yield f"percentage right, {name}", normal(100 * right)
    clip = Clips(
        episodes(world, "test", TILE_EPISODES, MOVER_KEYS), start, torch.zeros(world.image_shape), torch.Generator()
    )
    standing = make_baselines(clip)[FROZEN]
    frozen = torch.stack([standing(row) for row in range(TILE_EPISODES)])
    yield f"{ERROR}: frozen when last seen, true way", mean_error(frozen, clip.image[:, start:])


def rolling(world: World) -> Figures:
    """How far from a ball, at the query's steps that have it in view, is a guess from what is known of it."""
    assert isinstance(world, RayHiddenMotion)
    start, time = world.context_length, np.arange(world.episode_length)[:, None]
    small = dataclasses.replace(world, image_size=8)
    walks = [small.generate(seed=SEED, split="test", index=index) for index in range(ROLLING)]
    place = np.stack([walk["targets_pos"] for walk in walks]).astype(np.float64) - SIDE / 2
    place = place[..., 0] + 1j * place[..., 1]  # (B, T, k)
    shown = np.stack([objects_in_view(walk) for walk in walks])
    circling = np.stack([walk["targets_circling"] for walk in walks]).astype(np.float64)[:, None]  # (B, 1, k)

    last = np.maximum.accumulate(np.where(shown, time, 0), axis=1)  # (B, T, k), 0 before that
    seen_last = last[:, start - 1 : start]
    frozen = np.take_along_axis(place, seen_last, 1)  # (B, 1, k)
    middle = 2 * math.pi / sorted(world.periods)[len(world.periods) // 2] * np.sign(circling)
    # of every motion, turned back to the first step, what the context showed of it comes together where it fits
    motions = np.array([way * 2 * math.pi / period for period in world.periods for way in (-1, 1)])
    together = [(place * shown * np.exp(-1j * motion * time))[:, :start].sum(1) for motion in motions]  # (B, k) each
    best = np.abs(together).argmax(0)  # (B, k)
    phase = np.take_along_axis(np.array(together), best[None], 0)[0]
    fitted = RADIUS * np.exp(1j * (np.angle(phase)[:, None] + motions[best][:, None] * time))
    guesses = {
        "nothing: the middle of the room": np.zeros_like(place),
        "a place on the circle at random": RADIUS
        * np.exp(2j * math.pi * np.random.default_rng(SEED).random(place.shape)),
        "frozen: where the context saw it last": frozen,
        "frozen: where it was last in view, up to the step before": np.take_along_axis(place, last[:, :-1], 1),
        "last seen, then on with the middle period": frozen * np.exp(1j * middle * (time - seen_last)),
        "extrapolated: the motion that fits what the context showed": fitted,
    }
    judged = shown[:, start:]
    some = judged.any((1, 2))  # of these episodes
    yield "test episodes", ROLLING
    yield "balls that their context never showed", int((~shown[:, :start].any(1)).sum())
    yield "percentage of a query in which a ball is in view", 100 * float(judged.mean())
    for name, guess in guesses.items():  # which all end with the episode
        away = np.abs(guess[:, start - len(time) :] - place[:, start:])
        mean = (away * judged).sum((1, 2))[some] / judged.sum((1, 2))[some]
        yield f"distance in cells, {name}", normal(mean)
    clips = episodes(world, "test", RAY_EPISODES)
    stood = np.stack([frozen.real, frozen.imag], -1)[:, 0] + SIDE / 2  # (B, k, 2)
    pictures = []
    for index in range(RAY_EPISODES):
        walk = world.walk(EpisodeSeed(SEED, "test", index), world.episode_length)
        lying = dataclasses.replace(walk.scene, objects=stood[index], circling=None)
        pictures.append(world.draw(lying, walk.trajectory())[start:])
    drawn = torch.from_numpy(np.stack(pictures)).movedim(-1, 2)
    yield f"{ERROR}: frozen when last seen, true way", mean_error(drawn, clips.image[:, start:])


def places(batch: Episode) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """In which cell of its track each mover is, and whether the whole track is in view, (B, T, M) each."""
    tracks = batch["mover_tracks"][:, None]  # (B, 1, M, 5, 2)
    place = (batch["mover_pos"][..., None, :] == tracks).all(-1).argmax(-1)
    return place, (np.abs(tracks - batch["agent_pos"][:, :, None, None]) <= VIEW // 2).all((-2, -1))


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


def actions_only(world: World) -> Figures:
    """The same doors from the actions alone: how many keys had been fetched at each try of a door tells most of it.

    Each such story counts as open where it mostly was in training; one that training does not have counts as shut.
    """
    assert isinstance(world, MultiDoorsKeys)
    story, is_open, shown = stories(world, "train", FITTED)
    known, number = np.unique(story[shown], return_inverse=True)
    mostly = np.bincount(number, weights=is_open[shown]) * 2 > np.bincount(number)
    story, is_open, shown = stories(world, "test", MOVERS)
    place = np.searchsorted(known, story).clip(max=len(known) - 1)
    right = ((mostly[place] & (known[place] == story)) == is_open) & shown
    yield f"percentage right, actions only, {MOVERS} test episodes", normal(100 * right.sum((1, 2)) / shown.sum((1, 2)))


def stories(
    world: MultiDoorsKeys, split: str, count: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each door, (B, T, N): the numbers of keys at its tries as digits, whether it is open, whether it is judged."""
    batch = world.generate_batch(seed=SEED, split=split, indices=range(count))
    action, query = batch["action"].argmax(-1), np.arange(world.episode_length) >= world.context_length
    offset = batch["doors_pos"][:, None] - batch["agent_pos"][:, :, None]  # (B, T, N, 2)
    tries = (action == TOGGLE)[..., None] & (offset[..., 0] == 0) & query[:, None]
    keys = (action == PICK_UP).cumsum(1)[..., None]
    story = np.zeros(tries.shape, np.int64)
    for time in np.flatnonzero(query):
        before = story[:, time - 1]
        story[:, time] = np.where(tries[:, time], before * (world.keys + 1) + keys[:, time], before)
    walking = (action != DONE)[:, ::-1].cumsum(1)[:, ::-1] > 0
    distance = np.abs(offset).max(-1)
    in_view = (distance <= VIEW // 2) & (distance > 0)
    return story, batch["door_open"], in_view & (walking & query)[..., None]


def walks(world: World) -> Figures:
    """The query's actions before it is filled up."""
    assert isinstance(world, GridWorld)
    queries = [world.script(EpisodeSeed(SEED, "test", index))[world.context_length - 1 :] for index in range(WALKS)]
    steps = [(query != DONE).sum() for query in queries]
    yield f"steps of the query before it is filled up, {WALKS} test episodes", float(np.mean(steps))


def rewards(world: World) -> Figures:
    """How often the last reward is 1, and 0, and what the turn before it tells."""
    last = [(part["reward"][:, -1], part["action"][:, -2, TURN_LEFT]) for part in parts(world, "test", REWARDS)]
    reward, up = (np.concatenate(column) == 1 for column in zip(*last, strict=True))
    ones = reward.mean()
    yield f"percentage right among {REWARDS} last rewards: always 1", 100 * float(ones)
    yield f"percentage right among {REWARDS} last rewards: always 0", 100 * float(1 - ones)
    same = (reward == up).mean()  # whichever rule is better here
    yield f"percentage right among {REWARDS} last rewards: actions only, by the turn", 100 * float(max(same, 1 - same))


def segments(world: World) -> Figures:
    """How many steps begin a segment, and F1 of what finds them without looking: at random, or at every step."""
    clips = GeneratedEpisodes(world, seed=SEED, split="test", num_episodes=SEGMENTS)
    every = np.stack([clips.episode(index)["boundary"][1:] for index in range(SEGMENTS)])
    share = float(every.mean())
    yield f"boundaries in 20 steps, {SEGMENTS} test episodes", normal(20 * every.mean(1))
    yield "F1 of boundaries at random, as many as there are", by_chance(share, share).f1
    yield "F1 of a boundary at every step", by_chance(1.0, share).f1


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
    RayMaze(size=9): (maps, frames),
    **{RayMaze(size=size): (maps,) for size in (11, 13, 15)},
    **{Rooms(rooms=rooms): (maps, frames) for rooms in (2, 4, 10)},
    LookAround(): (maps, frames),
    RayHiddenMotion(): (maps, frames, rolling),
    DistractingMemory(width=8): (maps,),
    DistractingMemory(width=16): (maps, rewards),
    DistractingMemory(width=100): (maps, frames),
    MultiDoorsKeys(keys=2): (maps, repeats),
    MultiDoorsKeys(keys=3): (maps, frames, doors, actions_only, walks),
    MultiDoorsKeys(keys=5): (maps, frames, doors, actions_only, walks),
    MultiDoorsKeys(keys=7): (maps, frames, doors, actions_only, walks),
    HiddenMotion(): (maps, frames, movers),
    BouncingBalls(): (frames, segments),
}
"""What is printed of each world."""


if __name__ == "__main__":
    main()
