"""The look of the ray-cast worlds: wall patterns, floor tiles, sky. Drawn by formula, so no image file is shipped.

A texture is sampled at `TEXELS` samples per cell. Every texture comes in `LEVELS` versions, level l blurred by a box of
2**l texels, so that the ray caster can pick the one whose blur matches the size of a pixel (less aliasing far away).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

TEXELS = 64
"""Samples per cell along a wall, up a wall and across the floor."""
LEVELS = 7
"""Blur levels; the last one averages a whole cell."""
WALL_HEIGHT = 0.75
"""Height of a wall in cells (1.5 world units, a cell being 2)."""

Mask = NDArray[np.float64]

WALL_TONES: tuple[tuple[str, tuple[int, int, int], tuple[int, int, int]], ...] = (
    ("bricks", (159, 71, 57), (190, 116, 97)),
    ("planks", (198, 115, 36), (230, 163, 82)),
    ("dots", (190, 173, 70), (226, 211, 114)),
    ("checks", (77, 133, 59), (113, 169, 85)),
    ("waves", (40, 134, 132), (86, 178, 172)),
    ("stripes", (59, 90, 166), (97, 130, 200)),
    ("diamonds", (107, 67, 155), (145, 105, 191)),
    ("scales", (189, 83, 133), (219, 129, 171)),
)
"""Style k is pattern, dark tone, light tone: eight hues around the colour circle."""

FLOOR_TONES = (((84, 82, 80), (104, 101, 97)), ((150, 146, 132), (176, 171, 154)))
"""Dark and light tone of the corridor floor (kind 0) and of the room floor (kind 1)."""

PLAIN_WALLS = (
    *((200, 60, 50), (60, 160, 70), (60, 90, 200), (220, 200, 70)),
    *((150, 70, 170), (70, 190, 200), (235, 235, 235), (60, 60, 60)),
)
"""Colour of style k without a pattern: eight that are far apart."""
PLAIN_FLOORS = ((90, 80, 70), (170, 160, 140))

SKY_TONES = ((96, 150, 214), (206, 222, 236))
"""Colour straight up and at the horizon."""


def wall_textures() -> NDArray[np.uint8]:
    """All wall textures, (8, LEVELS, TEXELS * WALL_HEIGHT, TEXELS, 3): style, blur, up the wall, along the wall."""
    along, up = np.meshgrid(_centres(1.0), _centres(WALL_HEIGHT))
    images = [_tint(_PATTERNS[name](along, up), dark, light) for name, dark, light in WALL_TONES]
    return np.stack([_blur_levels(image) for image in images])


def floor_textures() -> NDArray[np.uint8]:
    """All floor textures, (2, LEVELS, TEXELS, TEXELS, 3): kind (corridor, room), blur, y, x within the cell."""
    x, y = np.meshgrid(_centres(1.0), _centres(1.0))
    return np.stack([_blur_levels(_tint(_tiles(x, y), dark, light)) for dark, light in FLOOR_TONES])


def plain_textures() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """As `wall_textures` and `floor_textures`, without patterns."""
    walls, floors = np.array(PLAIN_WALLS, np.uint8), np.array(PLAIN_FLOORS, np.uint8)
    high = round(TEXELS * WALL_HEIGHT)
    return (
        np.tile(walls[:, None, None, None], (1, LEVELS, high, TEXELS, 1)),
        np.tile(floors[:, None, None, None], (1, LEVELS, TEXELS, TEXELS, 1)),
    )


def sky_rows(height: int, slopes: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colour of the sky per image row, (height, 3), from each row's slope (rise over distance)."""
    high, low = (np.array(tone, np.float64) for tone in SKY_TONES)
    elevation = np.clip(slopes.reshape(height, 1), 0.0, 1.0)
    return np.rint(low + (high - low) * elevation).astype(np.uint8)


def _centres(extent: float) -> NDArray[np.float64]:
    """Centres of the texels along `extent` cells."""
    return (np.arange(round(TEXELS * extent)) + 0.5) / TEXELS


def _tint(mask: Mask, dark: tuple[int, int, int], light: tuple[int, int, int]) -> NDArray[np.float64]:
    """The mix dark + mask (light - dark), (H, W, 3)."""
    low, high = np.array(dark, np.float64), np.array(light, np.float64)
    return low + mask[..., None] * (high - low)


def _blur_levels(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The image at every blur level, (LEVELS, H, W, 3): means over boxes, wrapping around at the borders."""
    levels = []
    for level in range(LEVELS):
        blurred = image
        for axis in (0, 1):
            width = min(2**level, image.shape[axis])
            shifts = range(-(width // 2), width - width // 2)
            blurred = np.mean([np.roll(blurred, shift, axis) for shift in shifts], axis=0)
        levels.append(np.rint(blurred).astype(np.uint8))
    return np.stack(levels)


def _soft(distance: Mask, edge: float = 0.03) -> Mask:
    """0 below -edge, 1 above +edge, a straight ramp between: an edge without stairs."""
    return np.clip(0.5 + distance / (2 * edge), 0.0, 1.0)


def _from_centre(position: Mask, period: float) -> Mask:
    """Distance to the centre of the period that `position` lies in, 0 .. period / 2."""
    return np.abs(np.mod(position, period) - period / 2)


def _bricks(along: Mask, up: Mask) -> Mask:
    course = np.floor(up / 0.1875)
    joint_up = _from_centre(up, 0.1875) - 0.071
    joint_along = _from_centre(along + 0.25 * np.mod(course, 2), 0.5) - 0.226
    return _soft(np.maximum(joint_up, joint_along), 0.02)


def _planks(along: Mask, up: Mask) -> Mask:
    plank = np.floor(up / 0.25)
    grain = 0.75 + 0.15 * np.sin(2 * np.pi * (along + 0.4 * plank)) + 0.1 * np.mod(plank, 2)
    return grain * _soft(0.1 - _from_centre(up, 0.25), 0.02)


def _dots(along: Mask, up: Mask) -> Mask:
    row = np.floor(up / 0.25)
    distance = np.hypot(_from_centre(along + 0.125 * np.mod(row, 2), 0.25), _from_centre(up, 0.25))
    return _soft(0.08 - distance)


def _checks(along: Mask, up: Mask) -> Mask:
    return 0.5 + 0.5 * np.clip(4 * np.sin(4 * np.pi * along) * np.sin(4 * np.pi * up), -1, 1)


def _waves(along: Mask, up: Mask) -> Mask:
    return 0.5 + 0.5 * np.sin(2 * np.pi * (4 * up + 0.25 * np.sin(4 * np.pi * along)))


def _stripes(along: Mask, up: Mask) -> Mask:
    return _soft(0.07 - _from_centre(along, 0.25)) * np.ones_like(up)


def _diamonds(along: Mask, up: Mask) -> Mask:
    distance = _from_centre(along, 0.5) / 0.25 + _from_centre(up, 0.375) / 0.1875
    return 0.5 * _soft(0.95 - distance, 0.12) + 0.5 * _soft(0.45 - distance, 0.12)


def _scales(along: Mask, up: Mask) -> Mask:
    row = np.floor(up / 0.1875)
    distance = np.hypot(_from_centre(along + 0.167 * np.mod(row, 2), 1 / 3), np.mod(up, 0.1875) - 0.1875)
    return 1 - _soft(0.035 - np.abs(distance - 0.15), 0.02)


def _tiles(x: Mask, y: Mask) -> Mask:
    return 0.5 + 0.5 * np.clip(3 * np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y), -1, 1)


_PATTERNS: dict[str, Callable[[Mask, Mask], Mask]] = {
    "bricks": _bricks,
    "planks": _planks,
    "dots": _dots,
    "checks": _checks,
    "waves": _waves,
    "stripes": _stripes,
    "diamonds": _diamonds,
    "scales": _scales,
}
