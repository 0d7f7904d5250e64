"""What happened beside what the model made of it, for a few episodes: as frames, a sheet, and as a GIF or MP4."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Colour = tuple[int, int, int]
Picture = NDArray[np.uint8]
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
CONTEXT_COLUMNS = 3
"""Frames of the context that a strip shows."""
QUERY_STEPS = (1, 2, 5, 10, 20, 35, 50)
"""Those that strips show, up to the horizon."""
COLUMN_WIDTH = 100
"""Pixels of a sheet's column at least: a heading has room."""


@dataclasses.dataclass(frozen=True)
class Video:
    """Frames of E episodes, context and query."""

    truth: Tensor
    """(E, C + H, C, H, W) uint8."""
    model: Tensor
    """(E, C + H, C, H, W) uint8: reconstructions of the context, then imagined frames."""
    context: int
    """The number of observed steps."""
    no_memory: Tensor | None = None
    """(E, 1 + H, C, H, W) uint8: as `model`, but the last frame of the context is all that was seen of it."""

    def __post_init__(self) -> None:
        if self.truth.shape != self.model.shape or self.truth.ndim != 5:
            raise ValueError(
                f"Video: expected two equal shapes (E, T, C, H, W), got {tuple(self.truth.shape)} "
                f"and {tuple(self.model.shape)}"
            )
        if self.truth.dtype != torch.uint8 or self.model.dtype != torch.uint8:
            raise ValueError(f"Video: expected uint8 frames, got {self.truth.dtype} and {self.model.dtype}")
        if self.no_memory is not None and self.no_memory.shape[:2] != (self.episodes, 1 + self.horizon):
            raise ValueError(
                f"Video: expected no_memory of the context's last frame and the {self.horizon} after it, got "
                f"{tuple(self.no_memory.shape)}"
            )
        if not 0 < self.context < self.truth.shape[1]:
            raise ValueError(f"Video: expected a context within 1..{self.truth.shape[1] - 1}, got {self.context}")

    @property
    def episodes(self) -> int:
        """The number of episodes, E."""
        return self.truth.shape[0]

    @property
    def horizon(self) -> int:
        """The number of imagined steps."""
        return self.truth.shape[1] - self.context

    def frame(self, source: Tensor, episode: int, time: int) -> Picture:
        """One frame of `truth`, `model` or `no_memory`."""
        return picture_of(source[episode, time])


def picture_of(image: Tensor) -> Picture:
    """(C, H, W) uint8 -> (H, W, 3): the channels of `shown_channels`, a single one in grey."""
    pixels = image.cpu().numpy()[shown_channels(len(image))]
    return rearrange(pixels, "c h w -> h w c") if len(pixels) == 3 else repeat(pixels[0], "h w -> h w c", c=3)


def shown_channels(count: int) -> slice:
    """Which of `count` channels are looked at: all of 1 or 3, of 4 the first three (the fourth is opacity or depth), of
    2 the last one, and of more the last three: stacked frames end with the newest.
    """
    return slice(0, 3) if count in (3, 4) else slice(count - (1 if count < 3 else 3), count)


def strip_times(context: int, horizon: int) -> list[int]:
    """Indices into the video: a few evenly spaced context steps up to the last one, then growing query steps."""
    seen = np.linspace(0, context - 1, CONTEXT_COLUMNS + 1)[1:].round().astype(int).tolist()
    return [*sorted(set(seen)), *query_times(context, horizon)]


def query_times(context: int, horizon: int) -> list[int]:
    """Indices into the video of growing query steps, the last one too."""
    steps = sorted({*(step for step in QUERY_STEPS if step <= horizon), horizon})
    return [context + step - 1 for step in steps]


def heading(time: int, context: int) -> str:
    """Of a strip's column: `seen 12` in the context, `+3` in the query."""
    return f"seen {time + 1}" if time < context else f"+{time + 1 - context}"


def sheet(video: Video, headings: Sequence[str]) -> Picture:
    """All frames in one picture, (height, width, 3): a line of the truth above one of the model for every episode.

    headings: of the columns, one for each step of the video. Context frames are blue, imagined ones orange.
    """
    columns = []
    for time in range(video.truth.shape[1]):
        colour = CONTEXT_COLOUR if time < video.context else QUERY_COLOUR
        frames = [
            _framed(video.frame(source, episode, time), colour)
            for episode in range(video.episodes)
            for source in (video.truth, video.model)
        ]
        columns.append(np.concatenate(frames, axis=0))
    small = _join(columns, axis=1)
    scale = max(1, -(-COLUMN_WIDTH // columns[0].shape[1]))
    result = Image.new("RGB", (scale * small.shape[1], scale * small.shape[0] + TEXT_HEIGHT), (BACKGROUND,) * 3)
    result.paste(Image.fromarray(small.repeat(scale, axis=0).repeat(scale, axis=1)), (0, TEXT_HEIGHT))
    draw = ImageDraw.Draw(result)
    for number, text in enumerate(headings):
        colour = CONTEXT_COLOUR if number < video.context else QUERY_COLOUR
        place = (scale * number * (columns[0].shape[1] + GAP), 3)
        draw.text(place, text, fill=colour, font=ImageFont.load_default(size=14))
    return np.asarray(result)


def write_video(video: Video, path: Path) -> None:
    """Truth | model for every episode, side by side: blue frames while observing, orange ones while imagining.

    Begins `CONTEXT_SHOWN` steps before the query; a GIF loops for ever. Raises `ValueError` unless the path ends in
    .gif or .mp4, and for .mp4 where PyAV is not installed.
    """
    check_path(path)
    pages = [page(video, time) for time in shown_times(video)]
    if path.suffix.lower() == ".mp4":
        _write_mp4(pages, path)
        return
    durations = [MILLISECONDS] * (len(pages) - 1) + [LAST_MILLISECONDS]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=durations, loop=0)


def check_path(path: Path) -> None:
    """Raise `ValueError` where `write_video` would."""
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"Expected a path that ends in .gif or .mp4, got {path}")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("av") is None:
        raise ValueError("MP4 needs PyAV: install it with `pip install av`, or write a .gif")


def shown_times(video: Video) -> range:
    """The steps that the GIF shows."""
    return range(max(0, video.context - CONTEXT_SHOWN), video.truth.shape[1])


def page(video: Video, time: int) -> Image.Image:
    """The whole picture at one time: a line of text above a grid, two episodes wide, of truth | model pairs."""
    colour = CONTEXT_COLOUR if time < video.context else QUERY_COLOUR
    font = ImageFont.load_default(size=14)
    # All pages have one width, in which the longest caption has room.
    longest = [caption(video, end) for end in (video.context - 1, video.truth.shape[1] - 1)]
    room = max(font.getlength(re.sub(r"\d", "0", text)) for text in longest)
    # Colours are reduced before enlarging, which is nine times less work than after.
    small = Image.fromarray(_grid(video, time, colour)).quantize(COLOURS, dither=Image.Dither.NONE)
    grid = small.resize((small.width * SCALE, small.height * SCALE), Image.Resampling.NEAREST)
    palette = (grid.getpalette() or [])[: 3 * COLOURS]
    palette += [0] * (3 * COLOURS - len(palette))
    # The index of the background is COLOURS, that of the text the next one.
    width = max(grid.width, round(room) + 2 * SCALE)
    result = Image.new("P", (width, grid.height + TEXT_HEIGHT), COLOURS)
    result.putpalette([*palette, *(BACKGROUND,) * 3, *colour])
    draw = ImageDraw.Draw(result)
    draw.fontmode = "1"  # no smoothing: a palette has no colours in between
    draw.text((SCALE, 3), caption(video, time), fill=COLOURS + 1, font=font)
    result.paste(grid, (0, TEXT_HEIGHT))
    return result


def caption(video: Video, time: int) -> str:
    """What a page shows, with the channels where they are not all."""
    count = video.truth.shape[2]
    first, end, _ = shown_channels(count).indices(count)
    numbers = f"channel {end}" if end - first == 1 else f"channels {first + 1}-{end}"
    channels = "" if end - first == count else f"    {numbers} of {count}"
    if time < video.context:
        return f"truth | reconstruction    context {time + 1} of {video.context}{channels}"
    return f"truth | imagination    step {time + 1 - video.context} of {video.horizon}{channels}"


def _write_mp4(pages: list[Image.Image], path: Path) -> None:
    """H.264; the last page is held as long as in a GIF."""
    import av

    with av.open(str(path), "w") as container:
        width, height = (side + side % 2 for side in pages[0].size)  # the codec wants even sides
        stream = container.add_stream("libx264", rate=Fraction(1000, MILLISECONDS))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in [*pages, *pages[-1:] * (LAST_MILLISECONDS // MILLISECONDS)]:
            whole = Image.new("RGB", (width, height), (BACKGROUND,) * 3)
            whole.paste(image.convert("RGB"))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(whole), format="rgb24")))
        container.mux(stream.encode())


def _grid(video: Video, time: int, colour: Colour) -> Picture:
    """All pairs at their own size, a border of one pixel around each frame."""
    pairs = []
    for episode in range(video.episodes):
        pair = [_framed(video.frame(source, episode, time), colour) for source in (video.truth, video.model)]
        pairs.append(np.concatenate(pair, axis=1))
    if len(pairs) > 1 and len(pairs) % 2:
        pairs.append(np.full_like(pairs[0], BACKGROUND))
    lines = [_join(pairs[i : i + 2], axis=1) for i in range(0, len(pairs), 2)]
    return _join(lines, axis=0)


def _framed(image: Picture, colour: Colour) -> Picture:
    """The image with a border of one pixel."""
    framed = np.full((image.shape[0] + 2, image.shape[1] + 2, 3), colour, np.uint8)
    framed[1:-1, 1:-1] = image
    return framed


def _join(tiles: list[Picture], axis: int) -> Picture:
    shape = list(tiles[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, BACKGROUND, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=axis)
