"""The batches of a run: its sources of episodes and the samplers over them."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from wmkit.batch import Batch
from wmkit.config import DataConfig, RunConfig
from wmkit.data import (
    EpisodeSource,
    GeneratedEpisodes,
    PersistentWindows,
    RandomWindows,
    Sampler,
    WholeEpisodes,
    open_source,
    restore_world,
)
from wmkit.data.sources import digest_of
from wmkit.data.worlds import SPLITS
from wmkit.training.overrides import world_overrides


def settle(config: RunConfig) -> tuple[RunConfig, list[str]]:
    """The config with all that it leaves to its archives written out, and what a person should know of it.

    Written out are the archives of the splits, how many test episodes there are, context and horizon: given that, the
    run is what its config says. Raises `ValueError`, before anything is trained, for an evaluation that the test
    episodes do not reach, and for archives that are missing, too small or of other shapes than the training episodes.
    """
    data, notes = archives_of(config.data), []
    config = dataclasses.replace(config, data=data)
    if data.source is not None or data.valid_source is not None or data.test_source is not None:
        training = training_source(config)
        validation, test = validation_source(config, like=training), held_out_source(config)
        _check_shapes("test_source", _name_of(config, data.test_source), test, like=training)
    if data.source is not None and (data.episodes or data.episode_length):
        notes.append("data.episodes and data.episode_length are for generated episodes: archives are read whole.")
    if _same(data.valid_source, data.source):
        notes.append(
            f"data.valid_source is the training archive, {data.source}: the best checkpoint is chosen on episodes that "
            "were trained on."
        )
    if data.test_source is None:
        _check_world(config)
        return config, notes
    notes += without_test_archive(config)
    folders = [os.path.abspath(one) for one in (data.source, data.test_source) if one is not None]
    if len(folders) == 2 and (copies := _copies(*folders, _stands_in(data) or "test")):
        notes.append(f"Test episodes that are training episodes too: {copies}. On them nothing new is asked.")
    context, horizon = query_of(test, config.eval.context, config.eval.horizon)
    lengths = [test.episode_length(index) for index in range(test.num_episodes or 0)]
    number = sum(length >= context + horizon for length in lengths)
    if len(lengths) < 2:
        raise ValueError(
            f"{data.test_source} holds 1 episode: the table compares each test episode with another one, so expected "
            "at least 2. Name a larger archive, data.test_source=..."
        )
    if number < 2:
        shortest = min(lengths)
        half = max(2, shortest // 2)
        advice = f"Say eval.context={half} eval.horizon={shortest - half}"
        raise ValueError(
            f"eval.context + eval.horizon: {context} + {horizon} steps, but {number or 'none'} of the {len(lengths)} "
            f"episodes of {data.test_source} has so many, the shortest has {shortest}, and the table needs two. "
            f"{advice if shortest > 2 else 'It takes episodes of at least 3 steps'}."
        )
    if number < len(lengths):
        few = len(lengths) - number
        notes.append(f"Left out: {few} of {len(lengths)} test episodes, shorter than {context + horizon} steps.")
    wanted = config.eval.episodes
    here = f"all {number}" if number < wanted else f"{wanted}"
    notes.append(
        f"To be tested on {here} episodes of {data.test_source}: {context} steps observed, {horizon} imagined."
    )
    assert config.model is not None, "filled in when the config was made"
    if config.model.reward_head and max(map(validation.episode_length, range(validation.num_episodes or 1))) <= context:
        raise ValueError(
            f"eval.context={context}: no validation episode is longer, so no reward after it can be judged. Say a "
            "smaller eval.context."
        )
    settled = dataclasses.replace(config.eval, context=context, horizon=horizon, episodes=min(wanted, number))
    return dataclasses.replace(config, eval=settled), notes


@functools.lru_cache
def _copies(source: str, test: str, split: str) -> int:
    """How many test episodes the training archive has too, in another folder; 0 where comparing would take long."""
    if _same(source, test):
        return 0
    training, held_out = open_source(source), open_source(test, split=split)
    ours, theirs = range(training.num_episodes or 0), range(held_out.num_episodes or 0)
    steps = sum(map(training.episode_length, ours)) + sum(map(held_out.episode_length, theirs))
    if steps * math.prod(training.image_shape) > COMPARED:
        return 0
    seen = {digest_of(training.episode(index)) for index in ours}
    return sum(digest_of(held_out.episode(index)) in seen for index in theirs)


COMPARED = 20_000 * 3 * 64 * 64
"""Numbers of images, of all episodes together, up to which training and test are compared: some seconds."""


def archives_of(data: DataConfig) -> DataConfig:
    """`data` with the archives for which a folder of several, or nothing, stands.

    A run on archives without a test archive of its own is tested on the validation archive.
    """
    source, valid, test = data.source, data.valid_source, data.test_source
    if source is not None and (Path(source) / "train").is_dir():
        inside = {split: Path(source) / split for split in SPLITS}
        source = str(inside["train"])
        valid = valid or (str(inside["valid"]) if inside["valid"].is_dir() else None)
        test = test or (str(inside["test"]) if inside["test"].is_dir() else None)
    test = test or (None if source is None else valid)
    return dataclasses.replace(data, source=source, valid_source=valid, test_source=test)


def without_test_archive(config: RunConfig) -> list[str]:
    """A sentence for a run that is tested on the archive of another split."""
    data = archives_of(config.data)
    split = _stands_in(data)
    if split is None:
        return []
    of = {
        "valid": "the validation archive, by which the best checkpoint is chosen",
        "train": "the training archive, so that nothing new is asked",
    }[split]
    return [f"Table and pictures are about {data.test_source}: the test archive is {of}."]


def _stands_in(data: DataConfig) -> str | None:
    """The split whose archive is the test archive too."""
    stored = {"valid": data.valid_source, "train": data.source}
    return next((split for split, folder in stored.items() if _same(data.test_source, folder)), None)


def _same(folder: str | None, other: str | None) -> bool:
    return folder is not None and other is not None and Path(folder).resolve() == Path(other).resolve()


def _name_of(config: RunConfig, folder: str | None) -> str:
    return config.world.name if folder is None else folder


def _check_world(config: RunConfig) -> None:
    """Refuse an evaluation that the episodes of the run's world do not reach."""
    world = config.world
    context = config.eval.context or world.context_length
    horizon = config.eval.horizon or 1  # None is what is left, which must not be nothing
    if context + horizon > world.episode_length:
        raise ValueError(
            f"eval.context + eval.horizon: {context} + {horizon} steps, but an episode of {world.name} has "
            f"{world.episode_length}. Shorten one of the two."
        )


def query_of(source: EpisodeSource, context: int | None, horizon: int | None) -> tuple[int, int]:
    """Context and horizon as given, or as the episodes of `source` suggest.

    The context is that of a script, if they have one (a world's `context_length`, or the constant of that name in an
    archive), else half of the shortest episode; the horizon is what is left of that episode.
    """
    if isinstance(source, GeneratedEpisodes):
        context = context or source.world.context_length
        return context, horizon or source.world.episode_length - context
    shortest = min(source.episode_length(index) for index in range(source.num_episodes or 1))
    if context is None:
        scripted = int(source.episode(0).constants.get("context_length", 0))
        context = scripted if 2 <= scripted < shortest else max(2, shortest // 2)
    return context, horizon or max(1, shortest - context)


def training_source(config: RunConfig) -> EpisodeSource:
    """Episodes to train on: the archive `data.source`, or the run's world.

    Raises `ValueError` for an archive of another world than the run's, whose validation would mean nothing.
    """
    data = archives_of(config.data)
    what = _folder("source", data.source) or config.world
    source = open_source(what, seed=data.seed, length=data.episode_length, num_episodes=data.episodes)
    if data.source is not None and data.valid_source is None:
        held = getattr(source, "origin", {}).get("world")
        if held is None:
            around = Path(data.source).absolute().parent
            whole = f", or all at once with data.source={around}" if (around / "valid").is_dir() else ""
            raise ValueError(
                f"{data.source} does not say of which world its episodes are, so none can be made for "
                f"validations: name an archive of others with data.valid_source=...{whole}"
            )
        if isinstance(held, dict):
            world = restore_world(held)
            same, label, say = world == config.world, world.name, " ".join(world_overrides(world))
        else:  # as older versions said it
            same, label, say = held == config.world.name, str(held), "world=..., as that world is called now"
        if not same:
            raise ValueError(f"{data.source} holds episodes of {label}: say {say}, or name data.valid_source.")
    return source


def validation_source(config: RunConfig, like: EpisodeSource, episodes: int | None = None) -> EpisodeSource:
    """Held-out episodes, by default one for each row of a batch, several windows being taken from each.

    Whole episodes: one for each row of all batches of a validation.

    Raises `ValueError` unless they have the shapes of `like`, the training source.
    """
    data = archives_of(config.data)
    folder = _folder("valid_source", data.valid_source)
    number = episodes or data.batch_size * (config.eval.batches if data.sampler == "episodes" else 1)
    source = open_source(
        folder or config.world, seed=data.seed, split="valid", length=data.episode_length, num_episodes=number
    )
    _check_shapes("valid_source", _name_of(config, folder), source, like)
    return source


def held_out_source(config: RunConfig, length: int | None = None) -> EpisodeSource:
    """Episodes that the run is tested on: the archive `data.test_source`, or what stands in for it (`archives_of`).

    length: of which a world makes that many steps.
    """
    data = archives_of(config.data)
    folder = _folder("test_source", data.test_source)
    split = _stands_in(data) or "test"
    return open_source(folder or config.world, seed=config.data.seed, split=split, length=length)


def _check_shapes(key: str, name: str, source: EpisodeSource, like: EpisodeSource) -> None:
    ours, theirs = ((tuple(s.image_shape), s.action_dim) for s in (source, like))
    if ours == theirs:
        return
    advice = f"Set data.{key}"
    if ours[0] == theirs[0] and not isinstance(source, GeneratedEpisodes):
        advice = f"If both are integers, import both with --action-dim {max(ours[1], theirs[1])}; else set data.{key}"
    raise ValueError(f"{name}: images and actions are {ours}, in training {theirs}. {advice}.")


def _folder(key: str, path: str | None) -> str | None:
    """`path`, which must be there: what is no folder would be taken for the name of a world."""
    if path is not None and not Path(path).is_dir():
        raise ValueError(
            f"data.{key}={path}: there is no such folder. It names an archive of episodes, such as `wmkit import` "
            "writes, or its cache. If it was moved, wmkit evaluate and imagine take --episodes-from; to resume a run, "
            "bring it back or link to it there."
        )
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


def check_windows(
    data: DataConfig, source: EpisodeSource, held_out: EpisodeSource, *, period: int, first_step: str
) -> list[str]:
    """What a person should know of the batches for dynamics that begin anew every `period` steps: `Dynamics.period`.

    first_step: the model's, see `ModelConfig`. Raises `ValueError` where rows that persist would come to different
    phases of that clock, and for windows from which nothing can be learnt.
    """
    lengths = [source.episode_length(index) for index in range(source.num_episodes or 1)]
    length = lengths[0] if data.sampler == "episodes" else data.length
    windows, persistent = data.sampler == "windows", data.sampler == "persistent"
    if first_step == "condition" and (max(lengths) < 2 or (windows and data.length < 2)):
        raise ValueError(
            f"{'data.length=1' if windows and data.length < 2 else 'Episodes of one step'}: the first step of a window "
            "enters no loss with model.first_step=condition, so nothing would be learnt. Take 2 steps or more."
        )
    for split, of in (("training", source), ("validation", held_out)) if windows else ():
        longest = max(of.episode_length(index) for index in range(of.num_episodes or 1))
        if data.length > longest:
            raise ValueError(
                f"data.length={data.length}: the longest {split} episode has {longest} steps. Take "
                f"data.length={longest} or less."
            )
    if persistent and data.length % period:
        raise ValueError(
            f"data.length={data.length} with data.sampler=persistent: rows begin their episodes whole windows apart, "
            f"and in these dynamics they can begin every {period} steps only. Take a multiple of {period}."
        )
    notes = []
    if not (length > period or period == 1 or persistent):  # a carried state has the period before
        notes.append(
            f"Sequences of {length} steps hold one period of the dynamics, which has {period}: how one follows another "
            f"is not learnt. Take at least {period + 1} (data.length, data.episode_length), or a shorter period "
            "(backbone.*)."
        )
    if (short := sum(one < data.length for one in lengths)) and data.sampler != "episodes":
        notes.append(
            f"{short} of {len(lengths)} training episodes are shorter than data.length={data.length}: their windows "
            f"are filled up with steps that do not count. The shortest has {min(lengths)}."
        )
    if source.num_episodes is not None and source.num_episodes < data.batch_size:
        notes.append(
            f"data.batch_size={data.batch_size}, but there are {source.num_episodes} training episodes: a batch shows "
            "some of them more than once."
        )
    if not isinstance(source, GeneratedEpisodes):  # a world is known to move
        images = [source.episode(index)["image"] for index in range(min(LOOKED_AT, len(lengths)))]
        if all((image == image[:1]).all() for image in images):
            notes.append(
                f"The images of the first {len(images)} training episodes never change: there is nothing to learn "
                "from them but one picture each."
            )
    return notes


LOOKED_AT = 3
"""Stored episodes of which `check_windows` reads the images."""


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
