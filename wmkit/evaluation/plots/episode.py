"""One episode as it is, without a model: frames abreast, all of them as a GIF, and the way walked on its map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from wmkit.data import Episode, render_tiles
from wmkit.evaluation.plots.figures import DOTS_PER_INCH, show_image
from wmkit.evaluation.plots.look import own_look
from wmkit.evaluation.plots.video import COLOURS, CONTEXT_COLOUR, MILLISECONDS, QUERY_COLOUR, Picture, shown_channels

COLUMNS, ROWS = 8, 2
LONGEST = 250
"""Frames of a GIF at most; of a longer episode every second one, or every third, ..."""
GIF_SIDE = 192
"""Pixels to which frames are enlarged, by a whole factor."""
BORDER = 4
MAP_INCHES = 6.0
"""The longer side of a map."""


@own_look()
def draw_frames(episode: Episode, path: Path, title: str) -> None:
    """Frames at even distances, the context's in blue, the query's in orange, each with its step."""
    shown = np.unique(np.linspace(0, episode.length - 1, COLUMNS * ROWS).round().astype(int)).tolist()
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(1.05 * COLUMNS + 0.4, 1.25 * rows + 0.5), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten().tolist()
    for axes, time in zip(panels, shown, strict=False):
        show_image(axes, _frame(episode, time), time < context_of(episode))
        axes.set_title(str(time), fontsize=9)
    for axes in panels[len(shown) :]:
        axes.axis("off")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def write_gif(episode: Episode, path: Path) -> None:
    """The frames one after another in a border of the context's blue or the query's orange."""
    pages = []
    for time in range(0, episode.length, -(-episode.length // LONGEST)):
        frame = Image.fromarray(_frame(episode, time)).quantize(COLOURS, dither=Image.Dither.NONE).convert("RGB")
        factor = max(1, GIF_SIDE // max(frame.size))
        frame = frame.resize((frame.width * factor, frame.height * factor), Image.Resampling.NEAREST)
        colour = CONTEXT_COLOUR if time < context_of(episode) else QUERY_COLOUR
        page = Image.new("RGB", (frame.width + 2 * BORDER, frame.height + 2 * BORDER), colour)
        page.paste(frame, (BORDER, BORDER))
        pages.append(page)
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=MILLISECONDS, loop=0)


@own_look()
def draw_map(episode: Episode, path: Path, title: str) -> bool:
    """The map from above with the way of `agent_pos` (T, 2), the context's in blue, the query's in orange, beginning at
    the triangle; dots are `targets_pos` (k, 2). Returns False, and writes nothing, for an episode without a map.

    A maze's is `maze_layout` (h, w), 1 where it is free, row 0 at the bottom, positions in cells from the lower left
    corner. A tile world's is `map_tiles` (h, w) drawn by its `atlas`, row 0 at the top, positions whole cells.
    """
    constants = episode.constants
    if "agent_pos" not in episode.steps or not constants.keys() & {"maze_layout", "map_tiles"}:
        return False
    figure = Figure(dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    way = episode["agent_pos"]
    if "maze_layout" in constants:
        height, width = constants["maze_layout"].shape
        axes.imshow(
            constants["maze_layout"], cmap="gray", vmin=-0.5, vmax=1, origin="lower", extent=(0, width, 0, height)
        )
        x, y = constants.get("targets_pos", np.zeros((0, 2))).T
        axes.scatter(x, y, s=70, color="0.5", edgecolors="black", zorder=3)
    else:
        height, width = constants["map_tiles"].shape
        axes.imshow(render_tiles(constants["map_tiles"], constants["atlas"]), extent=(0, width, height, 0))
        way = way + 0.5
    context = context_of(episode)
    # The context's line is broad: the query's, above it, hides nothing where both went.
    for part, colour, breadth in ((way[: context + 1], CONTEXT_COLOUR, 3.5), (way[context:], QUERY_COLOUR, 1.2)):
        axes.plot(*part.T, color=np.divide(colour, 255), linewidth=breadth, zorder=4)
    axes.scatter(way[0, 0], way[0, 1], marker="^", s=50, color="black", edgecolors="white", zorder=5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=10)
    longer = max(height, width)
    figure.set_size_inches(max(3.0, MAP_INCHES * width / longer), MAP_INCHES * height / longer + 0.5)
    figure.savefig(path)
    return True


def context_of(episode: Episode) -> int:
    """Observed steps, as the episode says: all of them where it does not."""
    return int(episode.constants.get("context_length", episode.length))


def _frame(episode: Episode, time: int) -> Picture:
    pixels = episode["image"][time]
    pixels = pixels[..., shown_channels(pixels.shape[-1])]
    return pixels if pixels.shape[-1] == 3 else pixels.repeat(3, axis=-1)
