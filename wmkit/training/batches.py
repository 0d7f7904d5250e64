"""The batches of a run: its sources of episodes and the samplers over them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from wmkit.batch import Batch
from wmkit.config import DataConfig, RunConfig
from wmkit.data import (
    EpisodeSource,
    PersistentWindows,
    RandomWindows,
    Sampler,
    WholeEpisodes,
    open_source,
    restore_world,
)
from wmkit.training.overrides import world_overrides


def check_query(config: RunConfig) -> None:
    """Refuse, before a run is trained, an evaluation that the episodes of its world do not reach."""
    if config.data.source is not None:
        return
    world = config.world
    context = config.eval.context or world.context_length
    horizon = config.eval.horizon or 1  # None is what is left, which must not be nothing
    if context + horizon > world.episode_length:
        raise ValueError(
            f"eval.context + eval.horizon: {context} + {horizon} steps, but an episode of {world.name} has "
            f"{world.episode_length}. Shorten one of the two."
        )


def training_source(config: RunConfig) -> EpisodeSource:
    """Episodes to train on: the archive `data.source`, or the run's world.

    Raises `ValueError` for an archive of another world than the run's, whose validation would mean nothing.
    """
    data = config.data
    what = _folder("source", data.source) or config.world
    source = open_source(what, seed=data.seed, length=data.episode_length, num_episodes=data.episodes)
    if data.source is not None and data.valid_source is None:
        held = getattr(source, "origin", {}).get("world")
        if isinstance(held, dict):
            world = restore_world(held)
            same, label, say = world == config.world, world.name, " ".join(world_overrides(world))
        else:  # as older versions said it
            same, label, say = held in (None, config.world.name), str(held), "world=..., as that world is called now"
        if not same:
            raise ValueError(f"{data.source} holds episodes of {label}: say {say}, or name data.valid_source.")
    return source


def validation_source(config: RunConfig, like: EpisodeSource, episodes: int | None = None) -> EpisodeSource:
    """Held-out episodes, by default one for each row of a batch, several windows being taken from each.

    Whole episodes: one for each row of all batches of a validation.

    Raises `ValueError` unless they have the shapes of `like`, the training source.
    """
    data = config.data
    what = _folder("valid_source", data.valid_source) or config.world
    number = episodes or data.batch_size * (config.eval.batches if data.sampler == "episodes" else 1)
    source = open_source(what, seed=data.seed, split="valid", length=data.episode_length, num_episodes=number)
    ours, theirs = ((tuple(s.image_shape), s.action_dim) for s in (source, like))
    if ours != theirs:
        raise ValueError(
            f"Validation on {what}: images and actions are {ours}, in training {theirs}. Set data.valid_source."
        )
    return source


def _folder(key: str, path: str | None) -> str | None:
    """`path`, which must be there: what is no folder would be taken for the name of a world."""
    if path is not None and not Path(path).is_dir():
        raise ValueError(f"data.{key}={path}: there is no such folder. It names an archive of episodes or its cache.")
    return path


def build_sampler(config: RunConfig, source: EpisodeSource) -> Sampler:
    """Training batches in the order that (seed, cursor) fixes."""
    data = config.data
    if data.sampler == "episodes":
        return WholeEpisodes(source, data.batch_size, seed=config.seed, workers=data.workers)
    if data.sampler == "persistent":
        return PersistentWindows(source, data.batch_size, data.length, seed=config.seed, workers=data.workers)
    return RandomWindows(
        source,
        data.batch_size,
        data.length,
        seed=config.seed,
        windows_per_episode=data.windows_per_episode,
        workers=data.workers,
    )


def check_windows(data: DataConfig, source: EpisodeSource, period: int) -> list[str]:
    """What a person should know of the batches for dynamics of which all parts tick every `period` steps.

    Raises `ValueError` where rows that persist would come to different phases of that clock.
    """
    length = source.episode_length(0) if data.sampler == "episodes" else data.length
    if data.sampler == "persistent" and data.length % period:
        raise ValueError(
            f"data.length={data.length} with data.sampler=persistent: rows begin their episodes whole windows apart, "
            f"and all levels tick together every {period} steps only. Take a multiple of {period}."
        )
    if length > period or period == 1 or data.sampler == "persistent":  # a carried state has the tick before
        return []
    return [
        f"Sequences of {length} steps hold one tick of the slowest level, which has one every {period}: it learns no "
        f"transition. Take at least {period + 1} (data.length, data.episode_length), or a smaller stride."
    ]


def validation_batches(config: RunConfig, source: EpisodeSource, rank: int = 0, processes: int = 1) -> Sequence[Batch]:
    """The same batches at every validation, held in memory: `eval.batches` of them.

    Where rows persist in training, one whole episode for each row in consecutive windows, to be read with the state
    carried on: a window from the middle of an episode alone would begin without the state that training has there.
    """
    data, number = config.data, config.eval.batches
    sampler: Sampler
    if data.sampler == "windows":
        sampler = RandomWindows(source, data.batch_size, data.length, seed=config.seed, windows_per_episode=number)
    else:
        sampler = WholeEpisodes(source, data.batch_size, seed=config.seed)
    with sampler.shard(rank, processes):
        if data.sampler == "persistent":
            whole = next(sampler)
            return [whole.window(start, start + data.length) for start in range(0, whole.shape[1], data.length)]
        return list(islice(sampler, number))
