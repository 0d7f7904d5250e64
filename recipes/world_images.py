"""Draw the images of docs/worlds.md into docs/pictures: python recipes/world_images.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from einops import rearrange
from matplotlib import pyplot
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wmkit_envs import (
    BouncingBalls,
    DistractingMemory,
    HiddenMotion,
    LookAround,
    MovingMnist,
    MultiDoorsKeys,
    RayHiddenMotion,
    RayMaze,
    Rooms,
    World,
)
from wmkit_envs.grid.atlas import render_tiles
from wmkit_envs.grid.scene import AGENT, GridScene
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.maze3d.scene import OPEN, Scene
from wmkit_envs.maze3d.simulation import Trajectory
from wmkit_envs.maze3d.textures import floor_textures, wall_textures
from wmkit_envs.video.moving_mnist import FAST, SLOW
from wmkit_envs.world import EpisodeSeed

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
SEED, ZOOM, GAP = 3, 2, 4
ASIDE = (2, 5)
"""Pixels from the corner of a tile to the context's and to the query's way."""
# to the end, back at the start room, back at the start, the end again
MEMORY_TIMES = (0, 12, 24, 36, 46, 49, 147, 150, 160, 198, 210, 222, 234, 244, 248, 249)
VIDEO_ROWS = tuple(MovingMnist(speed=speed) for speed in (SLOW, 1.0, FAST))
# the first station watched for a while, then the second; the second looked at in the query, then the first
MOTION_TIMES = (0, 6, 9, 12, 15, 18, 36, 42, 74, 92, 98, 101, 104, 130, 144, 147)
DOORS_TIMES = (0, 12, 22, 30, 60, 100, 140, 169, 181, 192, 210, 250, 300, 350, 420, 500)


def main() -> None:
    """One strip and one map for one world of each kind, the eight wall styles, and videos."""
    mpl.use("Agg")
    FOLDER.mkdir(exist_ok=True)
    walked = (
        (RayMaze(), range(0, 96, 8)),
        (Rooms(), range(276, 372, 8)),
        (Rooms(rooms=4), range(476, 572, 8)),
        (Rooms(rooms=10), range(1076, 1172, 8)),
        (LookAround(), range(36, 96, 5)),
        (RayHiddenMotion(), range(76, 112, 3)),
    )
    for world, times in walked:
        simulation = world.walk(EpisodeSeed(SEED), world.episode_length)
        trajectory = simulation.trajectory()
        images = world.draw(simulation.scene, trajectory)
        save(f"{world.name}_strip", tile(images[list(times)], columns=6))
        if not isinstance(world, LookAround):  # whose walker stays where it is
            draw_map(world, simulation.scene, trajectory)
    save("walls", tile(wall_textures()[:, 0], columns=8))
    for grid_world, chosen in (
        (DistractingMemory(width=100), MEMORY_TIMES),
        (MultiDoorsKeys(keys=5), DOORS_TIMES),
        (HiddenMotion(), MOTION_TIMES),
    ):
        images = grid_world.generate(seed=SEED)["image"]
        save(f"{grid_world.name}_strip", tile(images[list(chosen)], columns=len(chosen) // 2))
        save(f"{grid_world.name}_map", draw_grid(grid_world))
    videos = [world.generate(seed=SEED, length=36)["image"] for world in VIDEO_ROWS]
    frames = np.concatenate([video[::3] for video in videos]).repeat(3, axis=-1)
    save("moving_mnist_strip", tile(frames, columns=len(videos[0][::3])))
    save("bouncing_balls_strip", tile(BouncingBalls().generate(seed=SEED, length=24)["image"], columns=12))


def tile(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Images (n, h, w, 3) in rows of `columns`, white gaps between."""
    padded = np.pad(images, ((0, 0), (0, GAP // 2), (0, GAP // 2), (0, 0)), constant_values=255)
    return rearrange(padded, "(row column) h w c -> (row h) (column w) c", column=columns)


def save(name: str, picture: NDArray[np.uint8]) -> None:
    """Write a PNG, every pixel `ZOOM` times as wide and high."""
    Image.fromarray(picture.repeat(ZOOM, 0).repeat(ZOOM, 1)).save(FOLDER / f"{name}.png", optimize=True)


def draw_map(world: World, scene: Scene, trajectory: Trajectory) -> None:
    """The scene from above, with the way walked: the context in black, the query in pink."""
    figure, axes = pyplot.subplots(figsize=(6, 6 * scene.walls.shape[0] / scene.walls.shape[1]), dpi=80)
    rows, columns = scene.walls.shape
    axes.imshow(seen_from_above(scene), origin="lower", extent=(-1, columns - 1, -1, rows - 1))
    x, y = trajectory.poses[:, 0], trajectory.poses[:, 1]
    axes.plot(x[: world.context_length], y[: world.context_length], color="black", linewidth=1)
    axes.plot(x[world.context_length :], y[world.context_length :], color="deeppink", linewidth=1)
    axes.scatter(
        scene.objects[:, 0],
        scene.objects[:, 1],
        c=np.clip(1.1 * scene.colors, 0, 1),
        s=90,
        edgecolors="black",
        zorder=3,
    )
    axes.scatter(x[0], y[0], marker="^", c="black", s=40, zorder=4)
    axes.axis("off")
    figure.savefig(FOLDER / f"{world.name}_map.png", bbox_inches="tight", pad_inches=0.02)
    pyplot.close(figure)


def draw_grid(world: GridWorld) -> NDArray[np.uint8]:
    """The map of a tile world with the way walked and the exits, and on top of it the agent at its start."""
    scene, positions = world.begin(EpisodeSeed(SEED)), world.generate_batch(seed=SEED, indices=[0])["agent_pos"][0]
    picture = Image.fromarray(render_tiles(scene.cells, world.atlas))
    canvas, (x, y, heading), size = ImageDraw.Draw(picture), scene.start, world.tile
    draw_ways(canvas, size * positions[: world.context_length], size * positions[world.context_length - 1 :])
    draw_exits(canvas, scene, size)
    picture.paste(Image.fromarray(world.atlas[AGENT + heading]), (size * x, size * y))
    return np.asarray(picture)


def draw_ways(canvas: ImageDraw.ImageDraw, context: NDArray[np.float32], query: NDArray[np.float32]) -> None:
    """Lines along cells with corners at (n, 2) pixels: the context in white, the query in pink to its lower right."""
    for way, aside, color in zip((context, query), ASIDE, ("white", "deeppink"), strict=True):
        canvas.line((way + aside).ravel().tolist(), fill=color)


def draw_exits(canvas: ImageDraw.ImageDraw, scene: GridScene, size: int) -> None:
    """A ring in the exit with reward 1, a cross in the one with reward 0; cells have `size` pixels."""
    (left, top), (x, y) = (size * np.array(cell) + 1 for cell in scene.exits)  # no exits: they are off the map
    across = size - 3
    canvas.ellipse((left, top, left + across, top + across), outline="white")
    canvas.line((x, y, x + across, y + across), fill="white")
    canvas.line((x, y + across, x + across, y), fill="white")


def seen_from_above(scene: Scene) -> NDArray[np.float64]:
    """(rows, columns, 3) in [0, 1]: the mean colour of each cell's wall or floor."""
    walls, floors = (art[:, 0].mean((1, 2)) / 255 for art in (wall_textures(), floor_textures()))
    return np.where((scene.walls == OPEN)[..., None], floors[scene.floors], walls[scene.walls])


if __name__ == "__main__":
    main()
