"""First-person images of a scene by ray casting: a batch of poses, on the CPU, without OpenGL.

`render(scene, poses, size)` is all that other modules know of a renderer. Walls stand upright, so what a ray meets
first depends on its direction over the floor alone: a fan of rays walks the grid (a digital differential analyser: it
jumps from border to border of the cells) and finds the wall faces in view; each pixel then meets its own face, the
floor or the sky exactly, pitch included. Objects are spheres whose centres lie on the floor, intersected exactly.
Rays have a forward component of 1 over the floor, so that a ray's parameter is the distance ahead.

Source of the camera: Memory Maze, measured against its depth images (`python -m benchmarks.maze3d_against_mujoco`).
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.compiled import compiled
from wmkit_envs.maze3d.scene import OPEN, Scene, check_image_size
from wmkit_envs.maze3d.textures import (
    LEVELS,
    TEXELS,
    WALL_HEIGHT,
    floor_textures,
    plain_textures,
    sky_rows,
    wall_textures,
)

HALF_VIEW = math.tan(math.radians(80 / 2))
"""Slope of the top image row against the camera's axis; the vertical field of view is 80 degrees."""
CAMERA_HEIGHT = 0.45
"""In cells above the floor."""
CAMERA_AHEAD = 0.075
"""In cells, of the walker's centre."""
CAMERA_PITCH = math.atan2(0.1, 1.0)
"""Downwards: 5.71 degrees."""
SKY, WALL, FLOOR, OBJECT = range(4)
"""What a pixel shows."""
OBJECT_RADIUS = 0.3
"""In cells; the lower half of the sphere is sunk in the floor."""

_FAN = 4
"""Rays of the fan per image column."""
_UP = round(TEXELS * WALL_HEIGHT)
"""Texels from a wall's foot to its top."""
_FAR = 1 / 64
"""1 / distance at which a wall ends that a ray runs along."""
_SIDE_SHADE = 0.82
"""Brightness of walls that face the x axis, so that corners show."""
_HAZE = 0.03
"""Brightness is divided by 1 + this per cell of depth."""
_LIGHT = (-0.36, 0.48, 0.80)
"""Unit vector to the light that shades objects, in the camera's frame: across, towards the camera, up."""
_BLURRED = tuple(1.5 * 2**level for level in range(LEVELS - 1))
"""Sizes of a pixel in texels from which on the next level is taken, whose box is about one pixel wide."""
_AMBIENT, _DIFFUSE = 0.5, 0.6

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]


def render(
    scene: Scene, poses: NDArray[np.float64], size: tuple[int, int] = (64, 64), objects: Floats | None = None
) -> Images:
    """Images (T, H, W, 3) uint8 of `scene` seen from `poses` (T, 3 or more): x, y in cells, heading in radians, ...

    `size` is (H, W); `objects` (T or 1, k, 2) are where the scene's objects are in each image, None where the scene has
    them. Raises `ValueError` for sizes outside 8..1024, poses and objects of the wrong shape and poses inside a wall.
    """
    return _look(scene, poses, size, kept=1, objects=objects)[0]


def measure(
    scene: Scene, poses: NDArray[np.float64], size: tuple[int, int] = (64, 64)
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """What `render` shows: depth (T, H, W) along the camera's axis in cells, infinite in the sky, and kind (T, H, W).

    Kinds are `SKY`, `WALL`, `FLOOR`, `OBJECT`. Raises `ValueError` as `render` does.
    """
    _, nearness, kinds = _look(scene, poses, size, kept=len(poses))
    with np.errstate(divide="ignore"):
        return 1 / (nearness * _rows(size[0])[1][:, None]), kinds


def _look(
    scene: Scene, poses: NDArray[np.float64], size: tuple[int, int], kept: int, objects: Floats | None = None
) -> tuple[Images, Floats, NDArray[np.uint8]]:
    """Images, and of the last `kept` of them 1 / distance ahead over the floor and kind, both (kept, H, W)."""
    check_image_size(size)
    poses = np.ascontiguousarray(poses, dtype=np.float64)
    if poses.ndim != 2 or poses.shape[1] < 3:
        raise ValueError(f"poses: expected shape (T, 3) of x, y, heading, got {poses.shape}")
    objects = scene.objects[None] if objects is None else objects
    if objects.shape[1:] != scene.objects.shape or len(objects) not in (1, len(poses)):
        expected = " or ".join(str((number, *scene.objects.shape)) for number in (len(poses), 1))
        raise ValueError(f"objects: expected shape {expected}, got {objects.shape}")
    out = np.empty((len(poses), *size, 3), np.uint8)
    nearness, kinds = np.empty((kept, *size)), np.empty((kept, *size), np.uint8)
    colors, art = 255 * scene.colors, _PLAIN if scene.plain else _PATTERNED
    if not _render_all(poses, scene.walls, scene.floors, objects, colors, art, _lens(size), out, nearness, kinds):
        rows, columns = scene.layout.shape
        raise ValueError(f"poses: every position must lie in a free cell of the {columns}x{rows} maze")
    return out, nearness, kinds


class _Lens(NamedTuple):
    """What all images of a size (H, W) have in common; rows from the top."""

    slopes: Floats
    """(H,) of the rays of each row, over the floor."""
    half_widths: Floats
    """(H,) how far to the side the edge of the picture lies, per distance ahead."""
    columns: Floats
    """(W,) from -1 at the left edge to 1."""
    fan: Floats
    """(R,) how far to the side each ray of the fan goes, per distance ahead."""
    rays: NDArray[np.uint16]
    """(H, W) the ray of the fan in which each pixel lies."""
    footprint: float
    """Size of a pixel in texels, one cell away."""
    floor_depths: Floats
    """(H,) distance ahead at which a row meets the floor."""
    floor_blurs: NDArray[np.int64]
    """(H,) and the level of blur there."""
    floor_shades: Floats
    """(H,) and the brightness."""
    sky: Images
    """(H, 3)"""


@functools.lru_cache(maxsize=4)
def _lens(size: tuple[int, int]) -> _Lens:
    height, width = size
    slopes, stretch = _rows(height)
    half_widths = HALF_VIEW * width / height / stretch
    columns = 2 * (np.arange(width) + 0.5) / width - 1
    rays, widest = _FAN * width, half_widths.max()
    fan = widest * (2 * (np.arange(rays) + 0.5) / rays - 1)
    across = half_widths[:, None] * columns
    with np.errstate(divide="ignore"):
        depths = np.where(slopes < 0, 1 / (-slopes / CAMERA_HEIGHT), math.inf)
    footprint = float((slopes[0] - slopes[1]) * TEXELS)
    return _Lens(
        slopes, half_widths, columns, fan, ((across / widest + 1) * (rays / 2)).astype(np.uint16), footprint,
        depths, np.searchsorted(_BLURRED, 2 * depths * footprint, side="right"), 1 / (1 + _HAZE * depths),
        sky_rows(height, slopes),
    )  # fmt: skip


def _rows(height: int) -> tuple[Floats, Floats]:
    """Of each image row from the top its slope over the floor and its `stretch`, both (H,).

    A pixel at (u, v) in the picture plane looks along u right + v up + axis, the axis pitched downwards. Over the floor
    that is `stretch` ahead; divided by it, rows have a slope each and columns are scaled by the row.
    """
    v = HALF_VIEW * (1 - 2 * (np.arange(height) + 0.5) / height)
    stretch = math.cos(CAMERA_PITCH) + v * math.sin(CAMERA_PITCH)
    return (v * math.cos(CAMERA_PITCH) - math.sin(CAMERA_PITCH)) / stretch, stretch


class _Art(NamedTuple):
    """The textures, texel after texel."""

    walls: Images
    """(styles x blurs x `_UP` x `TEXELS`, 3)"""
    floors: Images
    """(kinds x blurs x `TEXELS` x `TEXELS`, 3)"""


_PATTERNED, _PLAIN = (
    _Art(walls.reshape(-1, 3), floors.reshape(-1, 3))
    for walls, floors in ((wall_textures(), floor_textures()), plain_textures())
)


class _Fan(NamedTuple):
    """Of the wall that each ray of the fan meets, (R,) each."""

    near: Floats
    """1 / distance ahead is near + change x how far to the side."""
    change: Floats
    start: Floats
    """Along the wall lies start + distance ahead x (ahead + aside x how far to the side)."""
    ahead: Floats
    aside: Floats
    light: Floats
    """Brightness of that side."""
    art: NDArray[np.int64]
    """Where the texture begins."""


@compiled
def _render_all(
    poses: Floats, walls: NDArray[np.int8], floors: NDArray[np.uint8], objects: Floats, colors: Floats, art: _Art,
    lens: _Lens, out: Images, nearness: Floats, kinds: NDArray[np.uint8],
) -> bool:  # fmt: skip
    """Paint every image: walls, sky and floor row by row, then the objects. False when a pose is in no free cell."""
    height, width, rays = out.shape[1], out.shape[2], len(lens.fan)
    fan = _Fan(
        np.empty(rays), np.empty(rays), np.empty(rays), np.empty(rays), np.empty(rays), np.empty(rays),
        np.empty(rays, np.int64),
    )  # fmt: skip
    for frame in range(len(poses)):
        kept = frame % len(kinds)
        row, column = math.floor(poses[frame, 1]) + 1, math.floor(poses[frame, 0]) + 1
        if not (0 < row < walls.shape[0] - 1 and 0 < column < walls.shape[1] - 1) or walls[row, column] != OPEN:
            return False
        x, y, forward_x, forward_y = camera_of(poses[frame])
        _spread(x, y, forward_x, forward_y, walls, lens, fan)
        for row in range(height):
            slope, half_width = lens.slopes[row], lens.half_widths[row]
            sky_slope, floor_slope = slope / (WALL_HEIGHT - CAMERA_HEIGHT), -slope / CAMERA_HEIGHT
            floor_depth, floor_blur, floor_shade = lens.floor_depths[row], lens.floor_blurs[row], lens.floor_shades[row]
            image, near_row, kind_row, rays_row = out[frame, row], nearness[kept, row], kinds[kept, row], lens.rays[row]
            for column in range(width):
                across = half_width * lens.columns[column]
                ray = rays_row[column]
                closeness = max(fan.near[ray] + fan.change[ray] * across, _FAR)  # of the wall
                if sky_slope >= closeness:
                    near_row[column], kind_row[column] = 0, SKY
                    for channel in range(3):
                        image[column, channel] = lens.sky[row, channel]
                elif floor_slope <= closeness:
                    near_row[column], kind_row[column] = closeness, WALL
                    depth = 1 / closeness
                    along = fan.start[ray] + depth * (fan.ahead[ray] + across * fan.aside[ray])
                    up = min(int((CAMERA_HEIGHT + slope * depth) * TEXELS), _UP - 1)
                    texel = fan.art[ray] + TEXELS * up + int(np.floor(along * TEXELS)) % TEXELS
                    shade = fan.light[ray] / (1 + _HAZE * depth)
                    for channel in range(3):
                        image[column, channel] = int(art.walls[texel, channel] * shade)
                else:
                    near_row[column], kind_row[column] = floor_slope, FLOOR
                    floor_x = int(np.floor((x + floor_depth * (forward_x + across * forward_y)) * TEXELS))
                    floor_y = int(np.floor((y + floor_depth * (forward_y - across * forward_x)) * TEXELS))
                    cell_x = min(max(floor_x // TEXELS, 0), floors.shape[1] - 1)
                    cell_y = min(max(floor_y // TEXELS, 0), floors.shape[0] - 1)
                    texel = LEVELS * floors[cell_y, cell_x] + floor_blur
                    texel = TEXELS * (TEXELS * texel + floor_y % TEXELS) + floor_x % TEXELS
                    for channel in range(3):
                        image[column, channel] = int(art.floors[texel, channel] * floor_shade)
        there = objects[frame % len(objects)]  # of one place for all images, or one for each
        _paint_objects(x, y, forward_x, forward_y, there, colors, lens, out[frame], nearness[kept], kinds[kept])
    return True


@compiled
def _spread(
    x: float, y: float, forward_x: float, forward_y: float, walls: NDArray[np.int8], lens: _Lens, fan: _Fan
) -> None:
    """Find the wall of each ray, at a stride that doubles while they meet one face.

    Between two rays that meet the same face there is no room for another wall, which is as wide as a face.
    """
    ray, stride, known = -1, 1, (-1, -1, False)
    while ray + 1 < len(lens.fan):
        probe = min(ray + stride, len(lens.fan) - 1)
        across = lens.fan[probe]
        met = cast(x, y, forward_x + across * forward_y, forward_y - across * forward_x, walls)
        if met != known and probe > ray + 1:
            stride = (probe - ray) // 2
            continue
        known = met
        row, column, side = met
        # On a wall's plane, 1 / distance ahead is linear in the place across.
        if side:
            away = column + (column < x) - x
            near, change, start, ahead, aside = forward_x / away, forward_y / away, y, forward_y, -forward_x
        else:
            away = row + (row < y) - y
            near, change, start, ahead, aside = forward_y / away, -forward_x / away, x, forward_x, forward_y
        for within in range(ray + 1, probe + 1):
            across = lens.fan[within]
            slant = forward_x + across * forward_y if side else forward_y - across * forward_x
            footprint = away / (slant * abs(slant)) * lens.footprint  # far walls, and those seen at a slant
            blur = 0
            for limit in _BLURRED:
                blur += footprint >= limit
            fan.near[within], fan.change[within] = near, change
            fan.start[within], fan.ahead[within], fan.aside[within] = start, ahead, aside
            fan.light[within] = _SIDE_SHADE if side else 1.0
            fan.art[within] = (LEVELS * walls[row, column] + blur) * _UP * TEXELS
        ray, stride = probe, 2 * stride


@compiled
def camera_of(pose: Floats) -> tuple[float, float, float, float]:
    """Where a walker's camera stands, counted from the corner of the outer wall, and its direction over the floor."""
    forward_x, forward_y = math.cos(pose[2]), math.sin(pose[2])
    return pose[0] + 1 + CAMERA_AHEAD * forward_x, pose[1] + 1 + CAMERA_AHEAD * forward_y, forward_x, forward_y


@compiled
def cast(x: float, y: float, ray_x: float, ray_y: float, walls: NDArray[np.int8]) -> tuple[int, int, bool]:
    """Row and column of the first wall cell on the ray, and whether the face that it meets looks along the x axis."""
    column, row = int(x), int(y)
    per_x, per_y = 1 / max(abs(ray_x), 1e-12), 1 / max(abs(ray_y), 1e-12)
    step_x, step_y = (1 if ray_x > 0 else -1), (1 if ray_y > 0 else -1)
    next_x = ((column + 1 - x) if ray_x > 0 else (x - column)) * per_x
    next_y = ((row + 1 - y) if ray_y > 0 else (y - row)) * per_y
    while True:
        if next_x < next_y:
            column, next_x = column + step_x, next_x + per_x
            if walls[row, column] != OPEN:
                return row, column, True
        else:
            row, next_y = row + step_y, next_y + per_y
            if walls[row, column] != OPEN:
                return row, column, False


@compiled
def _paint_objects(
    x: float, y: float, forward_x: float, forward_y: float, objects: Floats, colors: Floats,
    lens: _Lens, image: Images, nearness: Floats, kinds: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Paint the spheres where they are nearer than what is there, whose 1 / distance is `nearness` (H, W).

    In the camera's frame (across, up, ahead) a pixel's ray is t (ray, slope, 1); the nearer root of |t d - c|^2 = r^2
    with c = (across, -camera height, depth) is where it meets the sphere.
    """
    width, slopes, half_widths = image.shape[1], lens.slopes, lens.half_widths
    for which in range(len(objects)):
        to_x, to_y = objects[which, 0] + 1 - x, objects[which, 1] + 1 - y
        depth = to_x * forward_x + to_y * forward_y
        across = to_x * forward_y - to_y * forward_x
        if depth <= -OBJECT_RADIUS:
            continue
        left, right = _sides(depth, across)
        gap = across * across + CAMERA_HEIGHT**2 + depth * depth - OBJECT_RADIUS**2
        highest = (OBJECT_RADIUS - CAMERA_HEIGHT) / (depth + OBJECT_RADIUS)  # of a sphere's top, were it further away
        lowest = -CAMERA_HEIGHT / max(depth - OBJECT_RADIUS, 1e-3)
        for row in range(len(slopes)):
            slope = slopes[row]
            if not lowest < slope < highest:
                continue
            first = max(int((left / half_widths[row] + 1) * width / 2), 0)
            last = min(int((right / half_widths[row] + 1) * width / 2) + 1, width)
            for column in range(first, last):
                ray = half_widths[row] * (2 * (column + 0.5) / width - 1)
                square = ray * ray + slope * slope + 1
                half = ray * across - slope * CAMERA_HEIGHT + depth
                root = half * half - square * gap
                if root <= 0 or half <= 0:
                    continue
                t = (half - math.sqrt(root)) / square
                up = CAMERA_HEIGHT + t * slope
                if t * nearness[row, column] >= 1 or up < 0:
                    continue
                nearness[row, column], kinds[row, column] = 1 / t, OBJECT
                facing = (t * ray - across) * _LIGHT[0] + up * _LIGHT[2] + (depth - t) * _LIGHT[1]
                shade = _AMBIENT + _DIFFUSE * max(facing / OBJECT_RADIUS, 0.0)
                for channel in range(3):
                    image[row, column, channel] = int(min(colors[which, channel] * shade, 255.0))


@compiled
def _sides(depth: float, across: float) -> tuple[float, float]:
    """How far to the side a sphere reaches at most, left and right, per distance ahead; everywhere when it is close."""
    if depth <= 1.5 * OBJECT_RADIUS:
        return -1e3, 1e3
    near, far = depth - OBJECT_RADIUS, depth + OBJECT_RADIUS
    low, high = across - OBJECT_RADIUS, across + OBJECT_RADIUS
    return low / (near if low < 0 else far), high / (near if high > 0 else far)
