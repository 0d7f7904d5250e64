"""Worlds: where episodes come from. Installed packages and plug-ins offer them by name; none is imported by name here.

An entry point of the group `wmkit.worlds` leads to a mapping from names to worlds, `register_world` adds one more. What
stands under a name is a family, a dataclass whose fields are its settings, or one world of a family.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from wmkit.checks import closest
from wmkit.data.episode import Array
from wmkit.data.worker import as_tuples

ENTRY_POINT_GROUP = "wmkit.worlds"
SPLITS = ("train", "valid", "test")


class StepsAndConstants(Protocol):
    """What a world makes: a `wmkit.data.Episode`, or an object of its own, so that no worker needs wmkit's imports."""

    @property
    def steps(self) -> Mapping[str, Array]:
        """Arrays with the leading axis T."""

    @property
    def constants(self) -> Mapping[str, Array]:
        """Arrays without a time axis; none of the keys of `steps`."""


@runtime_checkable
class World(Protocol):
    """A generator of scripted episodes; `generate` is a pure function of the world and of its arguments.

    An instance of a frozen dataclass that has a default on every field; two worlds with equal fields are one. Fields
    hold what JSON can hold, with tuples for lists.
    """

    @property
    def name(self) -> str:
        """Label in tables and in the names of folders, for instance `ray_maze_9x9`; other fields, another label."""

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

    def generate(
        self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None
    ) -> StepsAndConstants:
        """Episode `index` of a split, or its first `length` observations only."""


FamilyOrWorld = TypeVar("FamilyOrWorld", bound="type[Any] | World")
_registered: dict[str, type[Any] | World] = {}


def register_world(name: str) -> Callable[[FamilyOrWorld], FamilyOrWorld]:
    """Make a family or a world known as `name`: as a class decorator, or `register_world("small")(RayMaze(size=9))`.

    Raises `ValueError` for a name that is taken, and for what is no dataclass with a default on every field and all
    members of `World`.
    """

    def register(world: FamilyOrWorld) -> FamilyOrWorld:
        if name in _known():
            raise ValueError(f"World {name!r} is already registered; {world!r} needs another name")
        _made(name, world)
        _registered[name] = world
        return world

    return register


def list_worlds() -> list[str]:
    """Names of all families and of the worlds that have a name of their own, sorted."""
    return sorted(_known())


def find_world(world: str | World, **settings: Any) -> World:
    """The world of that name (a family's: with its defaults), or `world` itself; with `settings`, those replaced.

    Raises `ValueError` for an unknown name or setting, with the closest match and the list, and as the world does for
    settings that make none.
    """
    if isinstance(world, str):
        known = _known()
        if world not in known:
            raise ValueError(
                f"Unknown world {world!r}.{closest(world, list(known))} Known: {', '.join(sorted(known)) or 'none'}. "
                "A world of your own must be imported first: plugins=your_module on the command line of a recipe."
            )
        world = _made(world, known[world])
    elif not _is_world(world):
        raise ValueError(f"expected the name of a world or a world, got {world!r}")
    instance: Any = world
    fields = [field.name for field in dataclasses.fields(instance)]
    for key in settings:
        if key not in fields:
            raise ValueError(
                f"{key!r} is no setting of {world.name}.{closest(key, fields)} It has {', '.join(fields)}."
            )
    held = {key: getattr(world, key) for key in fields} | settings
    changed = {key: value for key in fields if (value := as_tuples(held[key])) is not getattr(world, key)}
    return dataclasses.replace(instance, **changed) if changed else world


def describe_world(world: World) -> dict[str, Any]:
    """`{"name": family, **fields}`, as `restore_world` takes it; raises `ValueError` for a class without a name."""
    known = _known()
    family = next((name for name, value in known.items() if value is type(world)), None)
    name = family or next((name for name, value in known.items() if type(value) is type(world)), None)
    if name is None:
        raise ValueError(f"{world!r} is of no registered family: decorate its class with wmkit.data.register_world")
    return {"name": name, **dataclasses.asdict(cast(Any, world))}


def restore_world(description: Mapping[str, Any]) -> World:
    """The world that `describe_world` described; raises `ValueError` as `find_world` does."""
    settings = {key: value for key, value in description.items() if key != "name"}
    return find_world(description["name"], **settings)


def _known() -> Mapping[str, type[Any] | World]:
    """What stands under each name; raises `ValueError` for an entry point that does not load or leads elsewhere."""
    known = dict(_registered)
    for point in _points(metadata.entry_points, tuple(sys.path)):
        where = f"The installed entry point {point.name} = {point.value} of group {ENTRY_POINT_GROUP}"
        try:
            offered = point.load()
        except Exception as error:  # importing runs another package's code
            raise ValueError(
                f"{where} does not load: {type(error).__name__}: {error}. Repair or uninstall the package that has it."
            ) from error
        if not isinstance(offered, Mapping):
            raise ValueError(f"{where} leads to {offered!r}, expected a mapping from names to worlds")
        known |= offered
    return known


@functools.cache
def _points(read: Callable[..., Iterable[metadata.EntryPoint]], path: tuple[str, ...]) -> list[metadata.EntryPoint]:
    """The entry points of packages on `path`, which is the interpreter's: looking for them takes milliseconds."""
    return list(read(group=ENTRY_POINT_GROUP))


def _made(name: str, value: type[Any] | World) -> World:
    """The world that stands under `name`; raises `ValueError` for what is none."""
    made: Any = value
    if isinstance(value, type) and dataclasses.is_dataclass(value):
        missing = dataclasses.MISSING
        bare = [f.name for f in dataclasses.fields(value) if f.default is missing and f.default_factory is missing]
        if bare:
            raise ValueError(f"World {name!r}: every field of {value.__name__} needs a default, missing for {bare}")
        made = value()
    if not _is_world(made):
        raise ValueError(
            f"{name!r} = {value!r} is no World: it is no dataclass, or lacks some of the members of wmkit.data.World"
        )
    return cast(World, made)


def _is_world(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and isinstance(value, World)
