"""Predictors that know nothing of dynamics: what a model has to beat on the same frames.

A squared error alone says little: mazes that differ in every wall can differ by a few per cent of their pixels. So each
figure is shown beside three predictions that need no model.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_image(image: Tensor) -> Tensor:
    """The mean over all frames of image (B, T, C, H, W) uint8 -> (C, H, W) float32 in [0, 1]: the best constant."""
    rows = [row.float().mean(dim=0) for row in image]
    return torch.stack(rows).mean(dim=0) / 255


def copy_last_frame(image: Tensor, context: int, horizon: int) -> Tensor:
    """The last context frame, held for the whole query: (B, horizon, C, H, W), a view."""
    return image[:, context - 1 : context].expand(-1, horizon, -1, -1, -1)


def other_random_frame(image: Tensor, horizon: int, generator: torch.Generator) -> Tensor:
    """For each row and query step a frame of another row at a uniformly random time: (B, horizon, C, H, W).

    It has the statistics of a frame and nothing of this episode: a model whose error is no lower has forgotten where it
    is. `generator` lives on the CPU. Raises `ValueError` for a single row.
    """
    rows, length = image.shape[:2]
    if rows < 2:
        raise ValueError(f"The other-random-frame baseline needs at least 2 episodes, got {rows}")
    shift = torch.randint(1, rows, (rows, horizon), generator=generator)
    other = (torch.arange(rows)[:, None] + shift) % rows
    time = torch.randint(length, (rows, horizon), generator=generator)
    return image[other.to(image.device), time.to(image.device)]


def black(image: Tensor) -> Tensor:
    """(C, H, W) of zeros: on black ground hard to beat, for a digit drawn at the wrong place costs twice."""
    return image.new_zeros(image.shape[-3:])


def other_clip(image: Tensor, context: int, horizon: int) -> Tensor:
    """For each row the query of the row before: a true video, of something else; (B, horizon, C, H, W).

    Raises `ValueError` for a single row.
    """
    if len(image) < 2:
        raise ValueError("The other-clip baseline needs at least 2 episodes, got 1")
    return image.roll(1, dims=0)[:, context : context + horizon]
