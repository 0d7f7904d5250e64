"""A backbone by its name, config or class, at the small width at which all are diagnosed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wmkit.backbones import Backbone
from wmkit.backbones.base import build_backbone
from wmkit.checks import check_integer
from wmkit.registry import entry_of, get_entry

WIDTH = 64
SSM: dict[str, float] = {"layers": 1, "feedforward": 2.0, "state_size": 64}
NUMBERS: dict[str, dict[str, float]] = {
    "gru": {"hidden": 1.0},
    "s4": SSM,
    "s4d": SSM,
    "s5": SSM,
    "lru": SSM,
    "transformer_xl": {"layers": 2, "heads": 4, "head_dim": 0.25, "ff": 2.0, "memory": 32},
}
"""What the shipped ones have in place of the numbers of size `small`; floats are times the width. Half of the layers of
`small`: two recurrences, or two layers of attention over 32 positions each; 64 real numbers of state a system."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A backbone to be diagnosed."""

    name: str
    """On the card and of its folder."""
    origin: str
    """`module:Class`."""
    numbers: dict[str, Any] | None
    """Its config; None of a class that has none."""
    make: Callable[[], Backbone]
    """A fresh one, its weights from PyTorch's global seed."""


def find_subject(part: Any, options: Sequence[str] = (), width: int = WIDTH) -> Subject:
    """The subject that a user names.

    part: a registered name; a config of one that is registered, taken as it is; a class, registered or built as
    `cls(width)`. A registered name or class is built at size `small` with `input_dim` = `width`, the shipped ones with
    the numbers of `NUMBERS`; `options`, `key=value`, are put in. Raises `ValueError` for what is none of these, and for
    what cannot be built.
    """
    check_integer("width", width, 1)
    if any(option.partition("=")[0] == "input_dim" for option in options):
        raise ValueError(f"input_dim is the width: expected --width, or width=, instead of {' '.join(options)}")
    entry = get_entry(part) if isinstance(part, str) else entry_of(part)
    if entry is None:
        if not (isinstance(part, type) and issubclass(part, Backbone)):
            raise ValueError(
                f"backbone: expected a registered name, a config or a class of one, or a subclass of wmkit.Backbone, "
                f"got {part!r}"
            )
        if options:
            raise ValueError(f"{part.__name__} is not registered, so that it has no options: drop {' '.join(options)}")
        subject = Subject(part.__name__, f"{part.__module__}:{part.__qualname__}", None, lambda: part(width))
    else:
        if entry.kind != "backbone":
            raise ValueError(f"{entry.name} is a {entry.kind}: only backbones are diagnosed, such as gru or s4")
        config = part
        if isinstance(part, str | type):
            shipped = NUMBERS.get(entry.name, {}) if entry.cls.__module__.startswith("wmkit.") else {}
            numbers = {key: int(n * width) if isinstance(n, float) else n for key, n in shipped.items()}
            config = dataclasses.replace(entry.config.for_size("small"), input_dim=width, **numbers)
        if options:
            try:
                config = OmegaConf.to_object(
                    OmegaConf.merge(OmegaConf.structured(config), OmegaConf.from_dotlist(list(options)))
                )
            except OmegaConfBaseException as error:
                raise ValueError(f"{type(config).__name__}: {str(error).splitlines()[0]}") from error
        name = " ".join([entry.name, *options])
        subject = Subject(name, entry.origin, dataclasses.asdict(config), lambda: build_backbone(entry, config))
    try:
        subject.make()
    except Exception as error:  # a user's code may raise anything
        raise ValueError(f"{subject.name} cannot be built at width {width}: {type(error).__name__}: {error}") from error
    return subject
