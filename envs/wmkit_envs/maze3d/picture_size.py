"""Which picture sizes the ray caster draws."""

from __future__ import annotations

MIN_SIDE, MAX_SIDE = 8, 1024


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    """`size` (H, W) itself; raises `ValueError` for a side outside 8..1024."""
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise ValueError(f"picture size: expected height and width in {MIN_SIDE}..{MAX_SIDE}, got {size}")
    return size
