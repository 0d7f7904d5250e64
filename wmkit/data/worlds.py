"""Worlds: where episodes come from. Found through entry points, never imported by name.

The group `wmkit.worlds` holds worlds, each under its name. The group `wmkit.world_families` holds functions from names
to worlds, each under what its short names begin with: a world of any size is found, though only a few are listed.
"""

from __future__ import annotations

import contextlib
import difflib
from importlib import metadata
from typing import Protocol, runtime_checkable

from wmkit.data.episode import Episode

ENTRY_POINT_GROUP = "wmkit.worlds"
FAMILY_GROUP = "wmkit.world_families"
SPLITS = ("train", "valid", "test")


@runtime_checkable
class World(Protocol):
    """A generator of scripted episodes; `generate` is a pure function of its arguments."""

    @property
    def name(self) -> str:
        """Short name, the one of its entry point: `ray_maze_9x9`."""

    @property
    def id(self) -> str:
        """Full id: `wmkit/RayMaze-9x9-v0`."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def action_dim(self) -> int:
        """Width A of the action."""

    @property
    def episode_length(self) -> int:
        """Observations in an episode."""

    @property
    def context_length(self) -> int:
        """Observations of the scripted context; the rest of the episode is the query."""

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """Episode `index` of a split, or its first `length` observations only."""


def list_worlds() -> list[str]:
    """Short names of the worlds that installed packages offer, sorted."""
    return sorted(_entry_points())


def find_world(name: str) -> World:
    """The world called `name`, short (`ray_maze_9x9`) or full (`wmkit/RayMaze-9x9-v0`).

    Raises `ValueError` with the closest match and the list of names for an unknown one, for a size that its family
    refuses, and for an entry point that leads to something that is not a `World`.
    """
    points = _entry_points()
    if name in points:
        return _load(points[name])
    if family := _family_of(name):
        return _load(family, name)
    if "/" in name and (found := _from_families(name)):
        return found
    by_id = {world.id: world for world in map(_load, points.values())} if "/" in name else {}
    if name in by_id:
        return by_id[name]
    close = difflib.get_close_matches(name, [*points, *by_id], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Unknown world {name!r}.{hint} Installed: {', '.join(sorted(points)) or 'none'}.{_sizes()}")


def entry_point_of(world: World) -> str:
    """`module:attribute` through which another process finds this very world, or the function from its name to it.

    Raises `ValueError` when there is none.
    """
    point = _entry_points().get(world.name) or _family_of(world.name)
    if point is None or _load(point, world.name) != world:
        raise ValueError(
            f"World {world.name!r} is not what the entry point of that name in group {ENTRY_POINT_GROUP!r} leads to, "
            "so a worker process cannot find it. Use workers=0, or register the world."
        )
    return point.value


def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}


def _families() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=FAMILY_GROUP)}


def _family_of(name: str) -> metadata.EntryPoint | None:
    return next((point for family, point in _families().items() if name.startswith(f"{family}_")), None)


def _from_families(name: str) -> World | None:
    """The world of that full id, if a family knows it."""
    for point in _families().values():
        with contextlib.suppress(ValueError):
            return _load(point, name)
    return None


def _sizes() -> str:
    families = ", ".join(f"{family}_..." for family in sorted(_families()))
    return f" In any size: {families}." if families else ""


def _load(point: metadata.EntryPoint, name: str = "") -> World:
    found = point.load()
    world = found(name) if point.group == FAMILY_GROUP else found
    if not isinstance(world, World):
        raise ValueError(f"Entry point {point.name} = {point.value} is no World: {world!r} lacks some of its members")
    return world
