"""wmkit: world models with interchangeable sequence backbones."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmkit.backbones import Backbone as Backbone
    from wmkit.backbones import BackboneConfig as BackboneConfig
    from wmkit.batch import Batch as Batch
    from wmkit.build import build_world_model as build_world_model
    from wmkit.config import ModelConfig as ModelConfig
    from wmkit.config import RunConfig as RunConfig
    from wmkit.diagnostics import Card
    from wmkit.loading import load as load
    from wmkit.loading import save as save
    from wmkit.probing import ProbeResults
    from wmkit.registry import list_backbones as list_backbones
    from wmkit.registry import register_backbone as register_backbone
    from wmkit.training import Summary
    from wmkit.world_model import WorldModel as WorldModel

__version__ = "0.1.0"
_HOMES = {
    "Backbone": "backbones",
    "BackboneConfig": "backbones",
    "Batch": "batch",
    "ModelConfig": "config",
    "RunConfig": "config",
    "WorldModel": "world_model",
    "build_world_model": "build",
    "list_backbones": "registry",
    "load": "loading",
    "register_backbone": "registry",
    "save": "loading",
}
"""Where what is offered here is written; it is imported when it is asked for, so that a page of help needs no PyTorch.
"""


def __getattr__(name: str) -> Any:
    """What `_HOMES` has, or a module of the package."""
    try:
        if name in _HOMES:
            return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        if not name.startswith("_"):
            return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """With what is not imported yet."""
    return sorted({*globals(), *_HOMES})


def train(config: RunConfig, folder: str | Path, validate: Callable[[WorldModel], Any] | None = None) -> Summary:
    """Train the run of `config` in `folder`, which is made, from its newest checkpoint if it has one.

    validate: what to measure and draw at each validation beside the loss, such as `HeldOutValidation(config)` of
    `wmkit.evaluation`. Returns how the run ended; `wmkit.load(folder)` gives the model.

    Raises `ValueError` for what cannot be trained on, a folder that holds something else or a run of another config,
    and one that another process writes to; `OSError` when the disk refuses.
    """
    from wmkit.training import train_in_folder

    return train_in_folder(config, folder, validate)


def diagnose(backbone: Any, **settings: Any) -> Card:
    """The memory card of a bare backbone: sequence tasks, no images, minutes of one core.

        print(wmkit.diagnose("gru", quick=True).table().markdown())

    backbone: a registered name, a config, or a class; settings: those of `wmkit.diagnostics.diagnose`.
    """
    from wmkit.diagnostics import diagnose

    return diagnose(backbone, **settings)


def probe(model: Any, source: Any, probes: Sequence[Any] | None = None, **options: Any) -> ProbeResults:
    """Probe what a model's state holds of the episodes that it reads; nothing of the model is changed.

    model: a `WorldModel`, or another one by `wmkit.probing.ForeignModel`. source: a world or its name, an archive, a
    folder with archives `train` and `test`, any source of episodes, or a pair of these, to fit to and to ask about.
    probes: names or objects of `wmkit.probing.Probe`; None: all that apply. options: `plan=Plan(...)` of
    `wmkit.probing` with rows, heads, seeds and numbers of episodes; `part=` both, h or z; `out=` a folder for records,
    tables and pictures, in which a call that was stopped goes on.

    Raises `ValueError` for what is no model, unknown probes and rows, and episodes that are too few or too short.
    """
    from wmkit import probing

    return probing.probe(model, source, probes, **options)
