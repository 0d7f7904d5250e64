"""Training: from a `RunConfig` to a run folder that says everything.

A name is imported when it is first asked for: `import wmkit`, which needs the checkpoints, does not wait for the loop.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmkit.training.checkpoints import CheckpointCorrupt as CheckpointCorrupt
    from wmkit.training.command import run_recipe as run_recipe
    from wmkit.training.command import train_in_folder as train_in_folder
    from wmkit.training.log import read_lines as read_lines
    from wmkit.training.loop import Summary as Summary
    from wmkit.training.loop import Trainer as Trainer
    from wmkit.training.loop import train as train
    from wmkit.training.overrides import compose as compose
    from wmkit.training.run_folder import RunFolder as RunFolder

HOMES = {
    "CheckpointCorrupt": "checkpoints",
    "RunFolder": "run_folder",
    "Summary": "loop",
    "Trainer": "loop",
    "compose": "overrides",
    "read_lines": "log",
    "run_recipe": "command",
    "train": "loop",
    "train_in_folder": "command",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
