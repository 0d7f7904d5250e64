"""First-person images of a scene by ray casting: a batch of poses, on the CPU, without OpenGL.

`render(scene, poses, size)` is all that other modules know of a renderer. Walls stand upright, so what a ray meets
first depends on its direction over the floor alone: a fan of rays walks the grid (a digital differential analyser: it
jumps from border to border of the cells) and finds the wall faces in view; each pixel then meets its own face, the
floor or the sky exactly, pitch included. Objects are spheres whose centres lie on the floor, intersected exactly.
Rays have a forward component of 1 over the floor, so that a ray's parameter is the distance ahead.

Source of the camera: Memory Maze, measured against its depth images (`python -m benchmarks.maze3d_against_mujoco`).
"""

from __future__ import annotations

import math

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
_FAR = 1 / 64
"""1 / distance at which a wall ends that a ray runs along."""
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
    return _look(scene, poses, size, kept=1)[0]


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
    scene: Scene, poses: NDArray[np.float64], size: tuple[int, int], kept: int
) -> tuple[Images, Floats, NDArray[np.uint8]]:
    """Images, and of the last `kept` of them 1 / distance ahead over the floor and kind, both (kept, H, W)."""
    height, width = size
    check_image_size(size)
    poses = np.ascontiguousarray(poses, dtype=np.float64)
    if poses.ndim != 2 or poses.shape[1] < 3:
        raise ValueError(f"poses: expected shape (T, 3) of x, y, heading, got {poses.shape}")
    cells = np.floor(poses[:, :2]).astype(np.int64)  # (T, 2) column, row
    rows, columns = scene.layout.shape
    inside = ((cells >= 0) & (cells < (columns, rows))).all(axis=1)
    if not inside.all() or not scene.layout[cells[:, 1], cells[:, 0]].all():
        raise ValueError(f"poses: every position must lie in a free cell of the {columns}x{rows} maze")
    slopes, stretch = _rows(height)
    out = np.empty((len(poses), height, width, 3), np.uint8)
    nearness, kinds = np.empty((kept, height, width)), np.empty((kept, height, width), np.uint8)
    _render_all(
        poses, scene.walls, scene.floors, scene.objects, 255 * scene.colors, *(_PLAIN if scene.plain else _PATTERNED),
        sky_rows(height, slopes), slopes, HALF_VIEW * width / height / stretch, out, nearness, kinds,
    )  # fmt: skip
    return out, nearness, kinds


def _rows(height: int) -> tuple[Floats, Floats]:
    """Of each image row from the top its slope over the floor and its `stretch`, both (H,).

    A pixel at (u, v) in the picture plane looks along u right + v up + axis, the axis pitched downwards. Over the floor
    that is `stretch` ahead; divided by it, rows have a slope each and columns are scaled by the row.
    """
    v = HALF_VIEW * (1 - 2 * (np.arange(height) + 0.5) / height)
    stretch = math.cos(CAMERA_PITCH) + v * math.sin(CAMERA_PITCH)
    return (v * math.cos(CAMERA_PITCH) - math.sin(CAMERA_PITCH)) / stretch, stretch


_PATTERNED = wall_textures(), floor_textures()
_PLAIN = plain_textures()


@compiled
def _render_all(
    poses: Floats, walls: NDArray[np.int8], floors: NDArray[np.uint8], objects: Floats, colors: Floats,
    wall_art: Images, floor_art: Images, sky: Images, slopes: Floats, half_widths: Floats,
    out: Images, nearness: Floats, kinds: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Paint every image: walls, sky and floor row by row, then the objects.

    `half_widths` (H,) is how far to the side the edge of the picture lies, per distance ahead, in each row.
    """
    height, width = out.shape[1], out.shape[2]
    widest = half_widths.max()
    rays = _FAN * width
    near, change = np.empty(rays), np.empty(rays)
    sides, styles, blurs = np.empty(rays, np.bool_), np.empty(rays, np.int64), np.empty(rays, np.int64)
    for frame in range(len(poses)):
        kept = frame % len(kinds)
        x, y, forward_x, forward_y = camera_of(poses[frame])
        for ray in range(rays):
            across = widest * (2 * (ray + 0.5) / rays - 1)
            ray_x, ray_y = forward_x + across * forward_y, forward_y - across * forward_x
            row, column, sides[ray] = cast(x, y, ray_x, ray_y, walls)
            styles[ray] = walls[row, column]
            # On a wall's plane, 1 / distance ahead is linear in the place across.
            if sides[ray]:
                away = column + (ray_x < 0) - x
                near[ray], change[ray] = forward_x / away, forward_y / away
            else:
                away = row + (ray_y < 0) - y
                near[ray], change[ray] = forward_y / away, -forward_x / away
            slant = ray_x if sides[ray] else ray_y
            blurs[ray] = _blur(away / (slant * abs(slant)), slopes)  # far walls, and those seen at a slant
        for row in range(height):
            slope = slopes[row]
            sky_slope, floor_slope = slope / (WALL_HEIGHT - CAMERA_HEIGHT), -slope / CAMERA_HEIGHT
            floor_depth = 1 / floor_slope if slope < 0 else math.inf
            floor_level, floor_shade = _blur(2 * floor_depth, slopes), 1 / (1 + _HAZE * floor_depth)
            image, near_row, kind_row = out[frame, row], nearness[kept, row], kinds[kept, row]
            for column in range(width):
                across = half_widths[row] * (2 * (column + 0.5) / width - 1)
                ray = int((across / widest + 1) * (rays / 2))
                closeness = max(near[ray] + change[ray] * across, _FAR)
                near_row[column] = closeness  # of the wall
                if sky_slope >= closeness:
                    near_row[column], kind_row[column] = 0, SKY
                    for channel in range(3):
                        image[column, channel] = sky[row, channel]
                elif floor_slope <= closeness:
                    kind_row[column] = WALL
                    depth = 1 / closeness
                    if sides[ray]:
                        along = y + depth * (forward_y - across * forward_x)
                    else:
                        along = x + depth * (forward_x + across * forward_y)
                    up = min(int((CAMERA_HEIGHT + slope * depth) * TEXELS), wall_art.shape[2] - 1)
                    texel = wall_art[styles[ray], blurs[ray], up, int((along - math.floor(along)) * TEXELS)]
                    shade = (_SIDE_SHADE if sides[ray] else 1.0) / (1 + _HAZE * depth)
                    for channel in range(3):
                        image[column, channel] = int(texel[channel] * shade)
                else:
                    near_row[column], kind_row[column] = floor_slope, FLOOR
                    floor_x = x + floor_depth * (forward_x + across * forward_y)
                    floor_y = y + floor_depth * (forward_y - across * forward_x)
                    cell_x = min(max(int(floor_x), 0), floors.shape[1] - 1)
                    cell_y = min(max(int(floor_y), 0), floors.shape[0] - 1)
                    texel = floor_art[
                        floors[cell_y, cell_x], floor_level,
                        int((floor_y - math.floor(floor_y)) * TEXELS), int((floor_x - math.floor(floor_x)) * TEXELS),
                    ]  # fmt: skip
                    for channel in range(3):
                        image[column, channel] = int(texel[channel] * floor_shade)
        _paint_objects(
            x, y, forward_x, forward_y, objects, colors, slopes, half_widths, out[frame], nearness[kept], kinds[kept]
        )


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
def _blur(distance: float, slopes: Floats) -> int:
    """Blur level whose box, 2**level texels, is about one pixel wide at `distance` (stretched by the wall's slant)."""
    footprint = distance * (slopes[0] - slopes[1]) * TEXELS
    level = 0
    while footprint >= 1.5 and level < LEVELS - 1:
        footprint /= 2
        level += 1
    return level


@compiled
def _paint_objects(
    x: float, y: float, forward_x: float, forward_y: float, objects: Floats, colors: Floats,
    slopes: Floats, half_widths: Floats, image: Images, nearness: Floats, kinds: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Paint the spheres where they are nearer than what is there, whose 1 / distance is `nearness` (H, W).

    In the camera's frame (across, up, ahead) a pixel's ray is t (ray, slope, 1); the nearer root of |t d - c|^2 = r^2
    with c = (across, -camera height, depth) is where it meets the sphere.
    """
    width = image.shape[1]
    for which in range(len(objects)):
        to_x, to_y = objects[which, 0] + 1 - x, objects[which, 1] + 1 - y
        depth = to_x * forward_x + to_y * forward_y
        across = to_x * forward_y - to_y * forward_x
        if depth <= -OBJECT_RADIUS:
            continue
        left, right = _sides(depth, across)
        gap = across * across + CAMERA_HEIGHT**2 + depth * depth - OBJECT_RADIUS**2
        for row in range(len(slopes)):
            slope = slopes[row]
            if slope >= 0:  # spheres end below the camera
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
