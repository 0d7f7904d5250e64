"""First-person images of a scene by ray casting: a batch of poses, on the CPU, without OpenGL.

`render(scene, poses, size)` is all that other modules know of a renderer. One ray per image column walks the grid
to its first wall (a digital differential analyser: it jumps from border to border of the cells); wall and floor pixels
then follow from the distance alone. Objects are spheres whose centres lie on the floor, intersected exactly. Rays have
forward component 1, so that a ray's parameter is the depth.

Source of the numbers: Memory Maze (field of view 80 degrees, camera 0.3, walls 1.5 high, cells of 2 world units).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.compiled import compiled
from wmkit_envs.maze3d.scene import MAX_SIDE, MIN_SIDE, OPEN, Scene
from wmkit_envs.maze3d.textures import LEVELS, TEXELS, WALL_HEIGHT, floor_textures, sky_rows, wall_textures

HALF_VIEW = math.tan(math.radians(80 / 2))
"""Slope of the top image row; the vertical field of view is 80 degrees."""
CAMERA_HEIGHT = 0.15
"""In cells above the floor."""
OBJECT_RADIUS = 0.3
"""In cells; the lower half of the sphere is sunk in the floor."""

_SIDE_SHADE = 0.82
"""Brightness of walls that face the x axis, so that corners show."""
_HAZE = 0.03
"""Brightness is divided by 1 + this per cell of depth."""
_LIGHT = (-0.36, 0.48, 0.80)
"""Unit vector to the light that shades objects, in the camera's frame: across, towards the camera, up."""
_AMBIENT, _DIFFUSE = 0.5, 0.6

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]


def render(scene: Scene, poses: NDArray[np.float64], size: tuple[int, int] = (64, 64)) -> Images:
    """Images (T, H, W, 3) uint8 of `scene` seen from `poses` (T, 3 or more): x, y in cells, heading in radians, ...

    `size` is (H, W). Raises `ValueError` for sizes outside 8..1024, poses of the wrong shape and poses inside a wall.
    """
    height, width = size
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise ValueError(f"image size: expected height and width in {MIN_SIDE}..{MAX_SIDE}, got {size}")
    poses = np.ascontiguousarray(poses, dtype=np.float64)
    if poses.ndim != 2 or poses.shape[1] < 3:
        raise ValueError(f"poses: expected shape (T, 3) of x, y, heading, got {poses.shape}")
    cells = np.floor(poses[:, :2]).astype(np.int64)  # (T, 2) column, row
    rows, columns = scene.layout.shape
    inside = ((cells >= 0) & (cells < (columns, rows))).all(axis=1)
    if not inside.all() or not scene.layout[cells[:, 1], cells[:, 0]].all():
        raise ValueError(f"poses: every position must lie in a free cell of the {columns}x{rows} maze")
    slopes = HALF_VIEW * (1 - 2 * (np.arange(height) + 0.5) / height)  # (H,) from the top
    out = np.empty((len(poses), height, width, 3), np.uint8)
    _render_all(
        poses, scene.walls, scene.floors, scene.objects, 255 * scene.colors,
        _WALLS, _FLOORS, sky_rows(height, slopes), slopes, HALF_VIEW * width / height, out,
    )  # fmt: skip
    return out


_WALLS = wall_textures()
_FLOORS = floor_textures()


@compiled
def _render_all(
    poses: Floats, walls: NDArray[np.int8], floors: NDArray[np.uint8], objects: Floats, colors: Floats,
    wall_art: Images, floor_art: Images, sky: Images, slopes: Floats, half_width: float, out: Images,
) -> None:  # fmt: skip
    """Paint every image: walls, sky and floor column by column, then the objects from far to near."""
    depths = np.empty(out.shape[2])
    for frame in range(len(poses)):
        x, y = poses[frame, 0] + 1, poses[frame, 1] + 1  # the grids include the outer wall
        forward_x, forward_y = math.cos(poses[frame, 2]), math.sin(poses[frame, 2])
        for column in range(out.shape[2]):
            across = half_width * (2 * (column + 0.5) / out.shape[2] - 1)
            ray_x, ray_y = forward_x + across * forward_y, forward_y - across * forward_x
            depth, style, hit, slant = _cast(x, y, ray_x, ray_y, walls)
            depths[column] = depth
            art = wall_art[style, _blur(depth / abs(slant), slopes)]
            _paint_wall(depth, hit, 1.0 if slant > 0 else _SIDE_SHADE, art, sky, slopes, out[frame, :, column])
            _paint_floor(x, y, ray_x, ray_y, depth, floors, floor_art, slopes, out[frame, :, column])
        _paint_objects(x, y, forward_x, forward_y, objects, colors, slopes, half_width, depths, out[frame])


@compiled
def _cast(x: float, y: float, ray_x: float, ray_y: float, walls: NDArray[np.int8]) -> tuple[float, int, float, float]:
    """First wall on the ray: depth, style, place along the wall (0..1), and slant.

    Slant is the ray's component across the wall's surface, positive for walls that face the y axis, negative for walls
    that face the x axis.
    """
    column, row = int(x), int(y)
    per_x, per_y = 1 / max(abs(ray_x), 1e-12), 1 / max(abs(ray_y), 1e-12)
    step_x, step_y = (1 if ray_x > 0 else -1), (1 if ray_y > 0 else -1)
    next_x = ((column + 1 - x) if ray_x > 0 else (x - column)) * per_x
    next_y = ((row + 1 - y) if ray_y > 0 else (y - row)) * per_y
    while True:
        if next_x < next_y:
            depth, column, next_x = next_x, column + step_x, next_x + per_x
            if walls[row, column] != OPEN:
                return depth, walls[row, column], (y + depth * ray_y) % 1.0, -abs(ray_x)
        else:
            depth, row, next_y = next_y, row + step_y, next_y + per_y
            if walls[row, column] != OPEN:
                return depth, walls[row, column], (x + depth * ray_x) % 1.0, abs(ray_y)


@compiled
def _blur(distance: float, slopes: Floats) -> int:
    """Blur level whose box, 2**level texels, is about one pixel wide at `distance` (stretched by the wall's slant)."""
    footprint = distance * (slopes[0] - slopes[1]) * TEXELS
    level = 0
    while footprint >= 1.5 and level < LEVELS - 1:
        footprint /= 2
        level += 1
    return level


@compiled
def _paint_wall(
    depth: float, hit: float, shade: float, art: Images, sky: Images, slopes: Floats, column: Images
) -> None:
    """Paint one image column (H, 3) from the top down to the foot of the wall; above the wall is sky."""
    shade /= 1 + _HAZE * depth
    along = int(hit * TEXELS)
    for row in range(len(slopes)):
        up = CAMERA_HEIGHT + slopes[row] * depth
        if up < 0:
            break
        if up >= WALL_HEIGHT:
            for channel in range(3):
                column[row, channel] = sky[row, channel]
        else:
            texel = int(up * TEXELS)
            for channel in range(3):
                column[row, channel] = int(art[texel, along, channel] * shade)


@compiled
def _paint_floor(
    x: float, y: float, ray_x: float, ray_y: float, wall_depth: float,
    floors: NDArray[np.uint8], floor_art: Images, slopes: Floats, column: Images,
) -> None:  # fmt: skip
    """Paint one image column (H, 3) from the bottom up to the foot of the wall."""
    for row in range(len(slopes) - 1, -1, -1):
        if slopes[row] * wall_depth > -CAMERA_HEIGHT:
            break
        depth = -CAMERA_HEIGHT / slopes[row]
        floor_x, floor_y = x + depth * ray_x, y + depth * ray_y
        cell_x, cell_y = int(floor_x), int(floor_y)
        kind, level = floors[cell_y, cell_x], _blur(2 * depth, slopes)
        texel_x, texel_y = int((floor_x - cell_x) * TEXELS), int((floor_y - cell_y) * TEXELS)
        shade = 1 / (1 + _HAZE * depth)
        for channel in range(3):
            column[row, channel] = int(floor_art[kind, level, texel_y, texel_x, channel] * shade)


@compiled
def _paint_objects(
    x: float, y: float, forward_x: float, forward_y: float, objects: Floats, colors: Floats,
    slopes: Floats, half_width: float, depths: Floats, image: Images,
) -> None:  # fmt: skip
    """Paint the spheres from far to near; one that holds the camera is not seen from within."""
    to_x, to_y = objects[:, 0] + 1 - x, objects[:, 1] + 1 - y
    far_first = np.argsort(-(to_x * to_x + to_y * to_y))
    for which in far_first:
        depth = to_x[which] * forward_x + to_y[which] * forward_y
        across = to_x[which] * forward_y - to_y[which] * forward_x
        inside = depth * depth + across * across + CAMERA_HEIGHT**2 <= OBJECT_RADIUS**2
        if not inside and depth > -OBJECT_RADIUS:
            first, last = _columns(depth, across, half_width, image.shape[1])
            for column in range(first, last):
                ray = half_width * (2 * (column + 0.5) / image.shape[1] - 1)
                _paint_sphere(depth, across, ray, colors[which], slopes, depths[column], image[:, column])


@compiled
def _columns(depth: float, across: float, half_width: float, width: int) -> tuple[int, int]:
    """Picture columns [first, last) that a sphere can touch; all of them when it is close."""
    if depth <= 1.5 * OBJECT_RADIUS:
        return 0, width
    near = depth - OBJECT_RADIUS
    low, high = across - OBJECT_RADIUS, across + OBJECT_RADIUS
    left = low / (near if low < 0 else depth + OBJECT_RADIUS)
    right = high / (near if high > 0 else depth + OBJECT_RADIUS)
    first = math.floor((left / half_width + 1) * width / 2)
    last = math.ceil((right / half_width + 1) * width / 2)
    return min(max(first, 0), width), min(max(last, 0), width)


@compiled
def _paint_sphere(
    depth: float, across: float, ray: float, color: Floats, slopes: Floats, wall_depth: float, column: Images
) -> None:
    """Paint the part of one sphere in one image column (H, 3): the nearer root of |t d - c|^2 = r^2.

    In the camera's frame (across, up, depth) the ray is t (ray, slope, 1) and c = (across, -camera height, depth).
    """
    gap = across * across + CAMERA_HEIGHT**2 + depth * depth - OBJECT_RADIUS**2
    for row in range(len(slopes)):
        slope = slopes[row]
        square = ray * ray + slope * slope + 1
        half = ray * across - slope * CAMERA_HEIGHT + depth
        root = half * half - square * gap
        if root <= 0 or half <= 0:
            continue
        t = (half - math.sqrt(root)) / square
        up = CAMERA_HEIGHT + t * slope
        if t >= wall_depth or up < 0:
            continue
        facing = ((t * ray - across) * _LIGHT[0] + up * _LIGHT[2] + (depth - t) * _LIGHT[1]) / OBJECT_RADIUS
        shade = _AMBIENT + _DIFFUSE * max(facing, 0.0)
        for channel in range(3):
            column[row, channel] = int(min(color[channel] * shade, 255.0))
