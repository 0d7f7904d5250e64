"""A few episodes as frames for the eye: what happened beside what the model made of it; and the GIF of that."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Colour = tuple[int, int, int]
Frame = NDArray[np.uint8]
"""(height, width, 3)."""

CONTEXT_COLOUR: Colour = (44, 123, 182)
QUERY_COLOUR: Colour = (240, 120, 20)
BACKGROUND = 255
SCALE = 3
"""Nearest-neighbour enlargement: 64 x 64 is too small to look at."""
GAP = 5
TEXT_HEIGHT = 22
COLOURS = 96
"""Colours of a page, text and background apart: fewer make a smaller file, and the worlds have few."""
CONTEXT_SHOWN = 25
"""Context steps that the GIF begins with, the last ones."""
MILLISECONDS = 120
LAST_MILLISECONDS = 1500


@dataclasses.dataclass(frozen=True)
class Film:
    """Frames of E episodes, context and query."""

    truth: Tensor
    """(E, C + H, C, H, W) uint8."""
    model: Tensor
    """(E, C + H, C, H, W) uint8: reconstructions of the context, then imagined frames."""
    context: int
    """The number of observed steps."""

    def __post_init__(self) -> None:
        if self.truth.shape != self.model.shape or self.truth.ndim != 5:
            raise ValueError(
                f"Film: expected two equal shapes (E, T, C, H, W), got {tuple(self.truth.shape)} "
                f"and {tuple(self.model.shape)}"
            )
        if self.truth.dtype != torch.uint8 or self.model.dtype != torch.uint8:
            raise ValueError(f"Film: expected uint8 frames, got {self.truth.dtype} and {self.model.dtype}")
        if not 0 < self.context < self.truth.shape[1]:
            raise ValueError(f"Film: expected a context within 1..{self.truth.shape[1] - 1}, got {self.context}")

    @property
    def episodes(self) -> int:
        """E."""
        return self.truth.shape[0]

    @property
    def horizon(self) -> int:
        """The number of imagined steps."""
        return self.truth.shape[1] - self.context

    def frame(self, source: Tensor, episode: int, time: int) -> Frame:
        """One frame (H, W, 3) of `truth` or `model`; grey images get three channels."""
        image = source[episode, time].permute(1, 2, 0).cpu().numpy()
        return image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1)


def write_gif(film: Film, path: Path) -> None:
    """Truth | model for every episode, side by side: blue frames while observing, orange ones while imagining.

    Begins `CONTEXT_SHOWN` steps before the query and loops for ever. Raises `ValueError` unless the path ends in .gif.
    """
    if path.suffix != ".gif":
        raise ValueError(f"Expected a path that ends in .gif, got {path}")
    first, *others = [page(film, time) for time in shown_times(film)]
    durations = [MILLISECONDS] * len(others) + [LAST_MILLISECONDS]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0)


def shown_times(film: Film) -> range:
    """The steps that the GIF shows."""
    return range(max(0, film.context - CONTEXT_SHOWN), film.truth.shape[1])


def page(film: Film, time: int) -> Image.Image:
    """The whole picture at one time: a line of text above a grid, two episodes wide, of truth | model pairs."""
    colour = CONTEXT_COLOUR if time < film.context else QUERY_COLOUR
    return _with_text(_enlarged(_grid(film, time, colour)), _caption(film, time), colour)


def _grid(film: Film, time: int, colour: Colour) -> Frame:
    """All pairs at their own size, a border of one pixel around each frame."""
    pairs = [
        np.concatenate(
            [_framed(film.frame(source, episode, time), colour) for source in (film.truth, film.model)], axis=1
        )
        for episode in range(film.episodes)
    ]
    if len(pairs) > 1 and len(pairs) % 2:
        pairs.append(np.full_like(pairs[0], BACKGROUND))
    lines = [_join(pairs[i : i + 2], axis=1) for i in range(0, len(pairs), 2)]
    return _join(lines, axis=0)


def _framed(image: Frame, colour: Colour) -> Frame:
    height, width, _ = image.shape
    framed = np.empty((height + 2, width + 2, 3), np.uint8)
    framed[:] = colour
    framed[1:-1, 1:-1] = image
    return framed


def _join(tiles: list[Frame], axis: int) -> Frame:
    shape = list(tiles[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, BACKGROUND, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=axis)


def _enlarged(grid: Frame) -> Image.Image:
    """Colours are reduced before enlarging, which is nine times less work than after."""
    small = Image.fromarray(grid).quantize(COLOURS, dither=Image.Dither.NONE)
    return small.resize((small.width * SCALE, small.height * SCALE), Image.Resampling.NEAREST)


def _with_text(grid: Image.Image, text: str, colour: Colour) -> Image.Image:
    """The grid below a line of text; the background's index is `COLOURS`, the text's the next one."""
    palette = (grid.getpalette() or [])[: 3 * COLOURS]
    palette += [0] * (3 * COLOURS - len(palette))
    result = Image.new("P", (grid.width, grid.height + TEXT_HEIGHT), COLOURS)
    result.putpalette([*palette, *(BACKGROUND,) * 3, *colour])
    draw = ImageDraw.Draw(result)
    draw.fontmode = "1"  # no smoothing: a palette has no colours in between
    draw.text((SCALE, 3), text, fill=COLOURS + 1, font=ImageFont.load_default(size=14))
    result.paste(grid, (0, TEXT_HEIGHT))
    return result


def _caption(film: Film, time: int) -> str:
    if time < film.context:
        return f"truth | reconstruction    context {time + 1} of {film.context}"
    return f"truth | imagination    step {time + 1 - film.context} of {film.horizon}"
