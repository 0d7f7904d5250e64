"""Episodes whose pictures are made of tiles: stored as tile numbers, drawn when they are loaded.

Such an episode's steps hold `tiles` (T, h, w) uint8, its constants `atlas` (n, ts, ts, C) uint8, the picture of each
tile. Its `image` (T, h ts, w ts, C) follows from them: 25 bytes a frame on disk instead of 4800 for 5x5 tiles of 8
pixels.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wmkit.data.episode import Array, Episode

TILE_KEYS = ("tiles", "atlas")
AnyArray = TypeVar("AnyArray", Array, Tensor)


def render_tiles(tiles: AnyArray, atlas: AnyArray) -> AnyArray:
    """Pictures (..., h ts, w ts, C) of tile numbers (..., h, w), atlas (n, ts, ts, C); both arrays or both tensors.

    Tensors are drawn on their own device: batches made with `keys=["tiles"]` hold what it takes in `Batch.extras`.
    """
    *lead, height, width = tiles.shape
    _, size, _, channels = atlas.shape
    rows: Any = atlas.reshape(-1, size * channels)  # of pixels: gathered in the order in which the picture has them
    if isinstance(tiles, Tensor):
        within = torch.arange(size, device=tiles.device)[:, None]
        pixels = rows[tiles[..., :, None, :].long() * size + within]
    else:
        pixels = rows.take(tiles[..., :, None, :].astype(np.intp) * size + np.arange(size)[:, None], axis=0)
    return pixels.reshape(*lead, height * size, width * size, channels)


def without_pictures(episode: Episode, where: str) -> Episode:
    """The episode as it is stored: less `image` where tiles make it, else as it is.

    Raises `ValueError`, opening with `where`, when `image` is not what its tiles and atlas make.
    """
    if "tiles" not in episode.steps or "atlas" not in episode.constants:
        return episode
    tiles, atlas = episode.steps["tiles"], episode.constants["atlas"]
    if tiles.max(initial=0) >= len(atlas) or not np.array_equal(render_tiles(tiles, atlas), episode["image"]):
        raise ValueError(f"{where}: image is not what tiles {tiles.shape} and atlas {atlas.shape} make")
    return dataclasses.replace(episode, steps={key: value for key, value in episode.steps.items() if key != "image"})


def with_pictures(episode: Episode) -> Episode:
    """A stored episode as it was: with its `image`."""
    if "image" in episode.steps:
        return episode
    image = render_tiles(episode.steps["tiles"], episode.constants["atlas"])
    return dataclasses.replace(episode, steps={"image": image, **episode.steps})


def picture_shape(steps: dict[str, tuple[int, ...]]) -> tuple[int, int, int]:
    """(C, H, W) of stored episodes, from the shape of one step or constant of each key."""
    if "image" in steps:
        height, width, channels = steps["image"]
        return channels, height, width
    (rows, columns), (_, size, _, channels) = (steps[key] for key in TILE_KEYS)
    return channels, rows * size, columns * size


def can_be_stored(keys: set[str], needed: tuple[str, ...]) -> bool:
    """Do stored episodes with these keys give all that is `needed`?"""
    return set(needed) <= (keys | {"image"} if set(TILE_KEYS) <= keys else keys)
