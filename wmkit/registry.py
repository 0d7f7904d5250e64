"""The registry: names a user can type as `backbone=`, filled by a decorator or by entry points."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Generic, Literal, TypeVar, get_args

from torch import nn

from wmkit.checks import closest

Kind = Literal["backbone", "dynamics", "video_model"]
ENTRY_POINT_GROUP = "wmkit.backbones"
ModuleClass = TypeVar("ModuleClass", bound=type[nn.Module])
Part = TypeVar("Part")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One registered model part."""

    name: str
    cls: type[nn.Module]
    config: type[Any]
    """The dataclass that configures `cls`; `cls(input_dim, config)` builds a backbone."""
    kind: Kind

    @property
    def origin(self) -> str:
        """`module:Class`, where the entry comes from."""
        return f"{self.cls.__module__}:{self.cls.__qualname__}"


_entries: dict[str, Entry] = {}


def register_backbone(name: str, config: type[Any], kind: Kind = "backbone") -> Callable[[ModuleClass], ModuleClass]:
    """Class decorator: make `cls` known as `name`, configured by the dataclass `config`.

    Raises `ValueError` for a name or a config class that is already taken, for a config that is not a dataclass with a
    default on every field and what `wmkit.BackboneConfig` has, and for an unknown kind.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"register_backbone({name!r}, ...): kind is one of {', '.join(get_args(Kind))}, got {kind!r}")
    _check_config(name, config, kind)

    def register(cls: ModuleClass) -> ModuleClass:
        if name in _entries:
            raise ValueError(
                f"Backbone {name!r} is already registered by {_entries[name].origin}; "
                f"{cls.__qualname__} needs another name."
            )
        taken = next((entry for entry in _entries.values() if entry.config is config), None)
        if taken:
            raise ValueError(
                f"{config.__name__} already configures {taken.name!r}; subclass it for {name!r}, "
                "a config must tell which backbone it is for."
            )
        _entries[name] = Entry(name, cls, config, kind)
        return cls

    return register


def get_entry(name: str) -> Entry:
    """The entry registered as `name`; raises `ValueError` with the closest match and the list of names."""
    entries = all_entries()
    if name in entries:
        return entries[name]
    raise ValueError(
        f"Unknown backbone {name!r}.{closest(name, entries)} Registered: {', '.join(sorted(entries))}. "
        "A backbone of your own must be imported first: plugins=your_module on the command line of a recipe."
    )


def entry_of(part: object) -> Entry | None:
    """The entry whose class or config class `part` is, or is an instance of; None when it is not registered."""
    cls = part if isinstance(part, type) else type(part)
    return next((entry for entry in all_entries().values() if cls in (entry.cls, entry.config)), None)


def entry_of_parent(cls: type) -> Entry | None:
    """The entry of the nearest registered class that the class `cls` is, or is a subclass of; None for none."""
    return next(filter(None, map(entry_of, cls.__mro__)), None)


def list_backbones(kind: Kind | None = None) -> list[str]:
    """Registered names, sorted; of one kind only when `kind` is given."""
    return sorted(name for name, entry in all_entries().items() if kind in (None, entry.kind))


def all_entries() -> dict[str, Entry]:
    """Every entry by name, those of wmkit and entry points of installed packages included."""
    # whose imports register; they import this module
    for package in ("wmkit.backbones", "wmkit.dynamics", "wmkit.video_models"):
        importlib.import_module(package)
    load_entry_points(ENTRY_POINT_GROUP)
    return dict(_entries)


@functools.cache
def load_entry_points(group: str) -> None:
    """Import, once, what installed packages offer in the group; importing runs their decorators.

    Raises `ValueError` that names the one that cannot be imported.
    """
    for point in metadata.entry_points(group=group):
        try:
            point.load()
        except Exception as error:  # importing runs another package's code
            raise ValueError(
                f"the installed entry point {point.name} = {point.value} of group {group} does not load: "
                f"{type(error).__name__}: {error}. Repair or uninstall the package that brings it."
            ) from error


class Classes(Generic[Part]):
    """Classes of one kind by name, such as measures: registered by a decorator, and by what packages offer.

    kind: in messages. package: whose import registers those of wmkit; it imports whoever holds this object, so it is
    imported when first asked for. group: of entry points.
    """

    def __init__(self, kind: str, package: str, group: str | None = None) -> None:
        self.kind, self.package, self.group = kind, package, group
        self.by_name: dict[str, type[Part]] = {}
        """Those registered so far, in that order."""

    def check_free(self, name: str) -> None:
        """Raise `ValueError` for a name that is taken."""
        if name in self.by_name:
            taken = self.by_name[name].__module__
            raise ValueError(f"{self.kind.capitalize()} {name!r} is already registered by {taken}")

    def add(self, name: str, cls: Any) -> None:
        """Make `cls` known as `name`, and tell it; raises `ValueError` for a name that is taken."""
        self.check_free(name)
        cls.name = name
        self.by_name[name] = cls

    def all(self) -> dict[str, type[Part]]:
        """Every one by name."""
        importlib.import_module(self.package)
        if self.group is not None:
            load_entry_points(self.group)
        return dict(sorted(self.by_name.items(), key=lambda item: (getattr(item[1], "order", 0), item[0])))

    def find(self, names: Sequence[str]) -> list[type[Part]]:
        """Those called so; raises `ValueError` with the closest match and the list of names."""
        known = self.all()
        for name in names:
            if name not in known:
                raise ValueError(f"Unknown {self.kind} {name!r}.{closest(name, known)} There are {', '.join(known)}.")
        return [known[name] for name in names]


def _check_config(name: str, config: type[Any], kind: Kind) -> None:
    if not (inspect.isclass(config) and dataclasses.is_dataclass(config)):
        raise ValueError(f"register_backbone({name!r}, ...): expected a dataclass as config, got {config!r}")
    missing = [
        field.name
        for field in dataclasses.fields(config)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(
            f"register_backbone({name!r}, {config.__name__}): every field needs a default, missing for {missing}"
        )
    for field in dataclasses.fields(config):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        if not _is_plain(default):
            raise ValueError(
                f"register_backbone({name!r}, {config.__name__}): the default of {field.name} is a "
                f"{type(default).__name__}, {default!r}; a run keeps its config as JSON, so that fields are numbers, "
                "strings, bools, enums, or lists and dicts of these (a path is a str)"
            )
    needed = ("for_size", "input_dim") if kind == "backbone" else ("for_size",)
    if not all(hasattr(config, attribute) for attribute in needed):
        raise ValueError(
            f"register_backbone({name!r}, {config.__name__}): a config has {' and '.join(needed)}; "
            "make it a subclass of wmkit.BackboneConfig"
        )


def _is_plain(value: Any) -> bool:
    """Can JSON hold it, enums and nested dataclasses written out?"""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(_is_plain(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | enum.Enum)
