"""From a registered entry and its config to a backbone."""

from __future__ import annotations

from typing import Any

from wmkit.backbones.base import Backbone
from wmkit.registry import Entry


def build_backbone(entry: Entry, config: Any) -> Backbone:
    """The entry's class at `config`; raises `ValueError` for a class that is no `Backbone`."""
    core = entry.cls(config.input_dim, config)
    if not isinstance(core, Backbone):
        raise ValueError(f"{entry.origin} is registered as a backbone: make it a subclass of wmkit.Backbone")
    return core
