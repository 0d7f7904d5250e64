"""Memory Maze's oracle: a small map in the picture's upper right corner, turned as the walker is, with its way.

The map has two pixels per cell, is centred on the walker and has north where the walker looks; it is mixed half and
half with the picture. Walls are black, cells white, the way to the current target green, the walker's cell red.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wmkit_envs.maze3d.scene import Scene
from wmkit_envs.maze3d.simulation import Trajectory

Cell = tuple[int, int]

WALL, FREE, WAY, HERE = ((0, 0, 0), (255, 255, 255), (0, 255, 0), (255, 0, 0))


def draw_maps(images: NDArray[np.uint8], scene: Scene, trajectory: Trajectory) -> None:
    """Draw the map into `images` (T, H, W, 3), in place. The trajectory must have targets, the maze be square."""
    assert trajectory.goals is not None, "an oracle knows the way to the current target"
    layout = scene.layout
    side = 2 * len(layout)
    for image, (x, y, heading, *_), goal in zip(images, trajectory.poses, trajectory.goals, strict=True):
        here = math.floor(x), math.floor(y)
        colors = np.array([WALL, FREE], np.uint8)[layout]  # (n, n, 3), row 0 at the bottom
        for column, row in shortest_way(layout, here, (int(scene.objects[goal, 0]), int(scene.objects[goal, 1]))):
            colors[row, column] = WAY
        colors[here[1], here[0]] = HERE
        card = Image.fromarray(colors[::-1]).resize((side, side), Image.Resampling.NEAREST)
        shift = (1, 0, 2 * x - side / 2, 0, 1, side / 2 - 2 * y)
        card = card.transform(card.size, Image.Transform.AFFINE, shift, Image.Resampling.NEAREST)
        card = card.rotate(90 - math.degrees(heading), Image.Resampling.NEAREST)
        corner = image[:side, -side:]
        corner[:] = corner // 2 + np.asarray(card) // 2


def shortest_way(layout: NDArray[np.uint8], start: Cell, goal: Cell) -> list[Cell]:
    """Cells from start to goal by breadth-first search, of equal ways the one that goes left, right, down, up first.

    Empty where the goal cannot be reached.
    """
    before: dict[Cell, Cell] = {start: start}
    queue = deque([start])
    while queue:
        x, y = queue.popleft()
        for cell in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)):
            inside = 0 <= cell[0] < layout.shape[1] and 0 <= cell[1] < layout.shape[0]
            if inside and layout[cell[1], cell[0]] and cell not in before:
                before[cell] = (x, y)
                queue.append(cell)
    if goal not in before:
        return []
    way = [goal]
    while way[-1] != start:
        way.append(before[way[-1]])
    return way[::-1]
