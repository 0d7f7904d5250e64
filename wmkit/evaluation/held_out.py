"""The held-out episodes of a run: made by its world in the split `test`, or read from an archive of that split."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from wmkit.batch import Batch
from wmkit.config import RunConfig
from wmkit.data import EpisodeSource, World, find_world, open_source
from wmkit.data.episode import check_episode
from wmkit.data.samplers import Segment, collate
from wmkit.training.run_folder import SAVED
from wmkit.world_model import WorldModel

PIXELS_AT_ONCE = 1600 * 64 * 64
"""Pixels of the frames in one batch of `in_batches`, or those of one episode where it has more: bounds memory."""


def context_and_horizon(
    config: RunConfig, context: int | None = None, horizon: int | None = None, *, world: str | World | None = None
) -> tuple[int, int]:
    """Context and horizon as asked for, as the run's config says, or as the world does: then the whole episode.

    world: it or its name; None: the run's.
    """
    context = context or config.eval.context or find_world(world or config.world).context_length
    return context, horizon or config.eval.horizon or find_world(world or config.world).episode_length - context


def other_episodes(
    run: Path, config: RunConfig, episodes_from: str | Path | World | None
) -> tuple[str, World | None, Path]:
    """Of episodes that a run is measured or shown on: their name, their world, and the folder for what is found.

    episodes_from: a world or its name, or an archive, which has no world here; None: the run's world, and its folder.
    Raises `ValueError` for an unknown world, and without one for a model that was saved without.
    """
    saved = run / SAVED
    if episodes_from is None and saved.exists() and not json.loads(saved.read_text(encoding="utf-8"))["world"]:
        raise ValueError(
            f"{run} was saved without its world: name the episodes, --episodes-from WORLD (in Python episodes_from=), "
            "or give world= to wmkit.save"
        )
    if isinstance(episodes_from, str | Path):
        label = str(episodes_from)
        world = None if Path(label).is_dir() else find_world(label)
    else:
        world = episodes_from
        label = (world or config.world).name
    return label, world, run if episodes_from is None else run / "held_out" / Path(label).name


def whole_episodes(
    config: RunConfig,
    model: WorldModel,
    split: str,
    count: int,
    length: int,
    source: str | Path | World | None = None,
    keys: Sequence[str] = (),
) -> Batch:
    """The first `length` steps of episodes 0..count-1 of a split, `keys` as extras.

    source: a world or its name, an archive or a cache; None: the run's world with the run's data seed. Raises
    `ValueError` for too few or too short episodes and for shapes that are not the model's.
    """
    what = config.world if source is None else source
    episodes = open_source(what, seed=config.data.seed, split=split)
    label = str(what) if isinstance(what, str | Path) else what.name
    _check(episodes, label, model, count, length)
    episodes = open_source(what, seed=config.data.seed, split=split, length=length)  # a world draws no further
    return read_episodes(episodes, range(count), length, keys, f"{label}, {split}")


def in_batches(source: EpisodeSource, count: int, keys: Sequence[str] = ()) -> Iterator[Batch]:
    """Episodes 0..count-1, whole and of equal length, batch by batch, `keys` as extras; nothing is kept."""
    length = source.episode_length(0)
    _, height, width = source.image_shape
    together = max(1, PIXELS_AT_ONCE // (length * height * width))
    for start in range(0, count, together):
        yield read_episodes(source, range(start, min(count, start + together)), length, keys)


def read_episodes(
    source: EpisodeSource, indices: range, length: int, keys: Sequence[str] = (), where: str = "Held-out"
) -> Batch:
    """Steps 0..length-1 of the episodes, after checking them, `keys` as extras."""
    chosen = [source.episode(index) for index in indices]
    for index, episode in zip(indices, chosen, strict=True):
        check_episode(episode, f"{where} episode {index}", source.image_shape, source.action_dim)
    pieces = [Segment(index, 0, length, fresh=True) for index in indices]
    return collate(pieces, chosen, length, keys)


def _check(episodes: EpisodeSource, what: str, model: WorldModel, count: int, length: int) -> None:
    """Raise `ValueError` for shapes that are not the model's, and for too few or too short episodes."""
    if (tuple(episodes.image_shape), episodes.action_dim) != (tuple(model.image_shape), model.action_dim):
        raise ValueError(
            f"{what} has images {tuple(episodes.image_shape)} and {episodes.action_dim} actions, the model was trained "
            f"on {tuple(model.image_shape)} and {model.action_dim}; name the world or archive that it was trained on"
        )
    if episodes.num_episodes is not None and episodes.num_episodes < count:
        raise ValueError(f"{what} has {episodes.num_episodes} episodes, expected at least {count}")
    shortest = min(episodes.episode_length(index) for index in range(count))
    if shortest < length:
        raise ValueError(
            f"Asked for (as context + horizon or as length) are {length} steps, but an episode of {what} has {shortest}"
        )
