"""The held-out episodes of a run: made by its world in the split `test`, or read from its test archive."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from wmkit.batch import Batch
from wmkit.config import RunConfig, archive_name
from wmkit.data import EpisodeSource, GeneratedEpisodes, World, find_world, open_source
from wmkit.data.episode import check_episode
from wmkit.data.samplers import Segment, collate
from wmkit.files import file_name, user_path
from wmkit.training.batches import archives_of, held_out_source, query_of, training_source
from wmkit.training.run_folder import SAVED
from wmkit.world_model import WorldModel

TRAINING_EPISODES = 16
"""Episodes of the training split that the mean image is taken over."""
PIXELS_AT_ONCE = 1600 * 64 * 64
"""Pixels of the frames in one batch of `in_batches`, or those of one episode where it has more: bounds memory."""


def context_and_horizon(
    config: RunConfig,
    context: int | None = None,
    horizon: int | None = None,
    *,
    episodes_from: str | Path | World | None = None,
) -> tuple[int, int]:
    """Context and horizon as asked for, as the run's config says, or as the episodes suggest: then all of the rest.

    episodes_from: a world or its name, or an archive; None: the run's own test episodes.
    """
    context, horizon = context or config.eval.context, horizon or config.eval.horizon
    return (context, horizon) if context and horizon else query_of(held_out(config, episodes_from), context, horizon)


def held_out(
    config: RunConfig, episodes_from: str | Path | World | None = None, length: int | None = None
) -> EpisodeSource:
    """Test episodes of a run, its own or those from elsewhere; `length`: a world makes that many steps of each."""
    if episodes_from is None:
        return held_out_source(config, length)
    return open_source(episodes_from, seed=config.data.seed, split="test", length=length)


def training_of(config: RunConfig) -> Callable[[int | None], EpisodeSource]:
    """From a number of steps to a run's training episodes, of which a world makes that many steps (None: all)."""
    if config.data.source is not None:
        return lambda length: training_source(config)
    return lambda length: open_source(config.world, seed=config.data.seed, split="train", length=length)


def training_frames(config: RunConfig, model: WorldModel, length: int) -> Tensor:
    """Frames (M, T, C, H, W) uint8 for a mean image: the first `length` steps of a run's first training episodes.

    Fewer episodes and steps where an archive has no more. Raises `ValueError` for an archive that is not there.
    """
    source = training_of(config)(None)
    there = range(TRAINING_EPISODES if source.num_episodes is None else source.num_episodes)
    length = min(length, max(source.episode_length(index) for index in there))
    return whole_episodes(config, model, "train", TRAINING_EPISODES, length, or_fewer=True).image


def other_episodes(run: Path, config: RunConfig, episodes_from: str | Path | World | None) -> tuple[str, Path]:
    """Of episodes that a run is measured or shown on: their name, and the folder for what is found.

    episodes_from: a world or its name, or an archive; None: the run's own, and its folder. Raises `ValueError` for an
    unknown world, and without one for a model that was saved without.
    """
    saved = run / SAVED
    if episodes_from is None and saved.exists() and not json.loads(saved.read_text(encoding="utf-8"))["world"]:
        raise ValueError(
            f"{run} was saved without its world: name the episodes, --episodes-from WORLD (in Python episodes_from=), "
            "or give world= to wmkit.save"
        )
    if episodes_from is None:
        return archives_of(config.data).test_source or config.world.name, run
    if isinstance(episodes_from, str | Path):
        if not str(episodes_from).strip():
            raise ValueError("Episodes from elsewhere: expected a folder or a world, got nothing")
        label = str(episodes_from)
        stored = Path(user_path(label)).is_dir()
        name = archive_name(label) if stored else label
        if not stored:
            find_world(label)
    else:
        label = name = episodes_from.name
    return label, run / "held_out" / file_name(name)


def whole_episodes(
    config: RunConfig,
    model: WorldModel,
    split: str,
    count: int,
    length: int,
    source: str | Path | World | None = None,
    keys: Sequence[str] = (),
    *,
    or_fewer: bool = False,
) -> Batch:
    """The first `length` steps of `count` episodes of a split, the first ones that have so many, `keys` as extras.

    source: a world or its name, an archive or a cache; None: the run's own episodes, `train` or `test`. or_fewer: as
    many as there are, where there are not `count`. Raises `ValueError` for too few or too short episodes and for shapes
    that are not the model's.
    """
    if source is None and split == "train":
        label, episodes = config.label, training_of(config)(None)
    else:
        label, episodes = other_episodes(Path(), config, source)[0], held_out(config, source)
    _check_shapes(episodes, label, model)
    there = range(count if episodes.num_episodes is None else episodes.num_episodes)
    long = [index for index in there if episodes.episode_length(index) >= length][:count]
    if len(long) < (1 if or_fewer else count):
        longest = max(episodes.episode_length(index) for index in there)
        if longest < length:
            raise ValueError(
                f"Asked for (as context + horizon or as length) are {length} steps, but an episode of {label} has "
                f"{longest}"
            )
        enough = f", {len(long)} of them with {length} steps" if len(long) < len(there) else ""
        raise ValueError(f"{label} has {len(there)} episodes{enough}, expected at least {count}")
    if isinstance(episodes, GeneratedEpisodes):  # a world draws no further
        episodes = open_source(episodes.world, seed=config.data.seed, split=split, length=length)
    return read_episodes(episodes, long, length, keys, f"{label}, {split}")


def in_batches(source: EpisodeSource, count: int, keys: Sequence[str] = (), least: int = 1) -> Iterator[Batch]:
    """Episodes 0..count-1, whole, batch by batch, `keys` as extras; nothing is kept.

    The episodes of a batch are equally long: of a source with several lengths the shortest come first. least: shorter
    episodes are left out.
    """
    _, height, width = source.image_shape
    by_length: dict[int, list[int]] = {}
    for index in range(count):
        by_length.setdefault(source.episode_length(index), []).append(index)
    for length, indices in sorted(by_length.items()):
        together = max(1, PIXELS_AT_ONCE // (length * height * width))
        for start in range(0, len(indices) if length >= least else 0, together):
            yield read_episodes(source, indices[start : start + together], length, keys)


def read_episodes(
    source: EpisodeSource, indices: Sequence[int], length: int, keys: Sequence[str] = (), where: str = "Held-out"
) -> Batch:
    """Steps 0..length-1 of the episodes, after checking them, `keys` as extras."""
    chosen = [source.episode(index) for index in indices]
    for index, episode in zip(indices, chosen, strict=True):
        check_episode(episode, f"{where} episode {index}", source.image_shape, source.action_dim)
    pieces = [Segment(index, 0, length, fresh=True) for index in indices]
    return collate(pieces, chosen, length, keys)


def _check_shapes(episodes: EpisodeSource, what: str, model: WorldModel) -> None:
    """Raise `ValueError` for shapes that are not the model's."""
    if (tuple(episodes.image_shape), episodes.action_dim) != (tuple(model.image_shape), model.action_dim):
        raise ValueError(
            f"{what} has images {tuple(episodes.image_shape)} and {episodes.action_dim} actions, the model was trained "
            f"on {tuple(model.image_shape)} and {model.action_dim}; name the world or archive that it was trained on"
        )
