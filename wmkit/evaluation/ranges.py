"""Ranges of query steps: those that tables show, and how they are called."""

from __future__ import annotations

Range = tuple[int, int]
"""First and last query step, counted from 1, both included."""

RANGES: tuple[Range, ...] = ((1, 5), (6, 20), (50, 50))
NEAR, MIDDLE, FAR = RANGES
VIDEO_RANGES: tuple[Range, ...] = ((1, 5), (6, 20), (21, 100), (101, 300), (301, 964))
"""Those of the papers on video, whose queries are longer."""


def cut(steps: Range, horizon: int) -> Range:
    """The range cut to 1..horizon; one that lies wholly beyond becomes the last step."""
    first, last = steps
    if not 1 <= first <= last:
        raise ValueError(f"A range of query steps is (first, last) with 1 <= first <= last, got {steps}")
    return min(first, horizon), min(last, horizon)


def label(steps: Range) -> str:
    """`6-20`, or `50` for a single step."""
    first, last = steps
    return str(first) if first == last else f"{first}-{last}"
