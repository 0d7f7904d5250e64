"""`wmkit.load`: from a run folder to a model ready to observe and imagine; `wmkit.save`: from a model to a folder."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import torch

from wmkit.config import RunConfig, load_config
from wmkit.data.worlds import World
from wmkit.files import user_folder, write_json
from wmkit.registry import entry_of
from wmkit.training.checkpoints import BEST, Checkpoint, CheckpointFolder, load_weights
from wmkit.world_model import WorldModel

LAST = "last"


def load(run: str | Path, checkpoint: str | Path = BEST, device: torch.device | str = "cpu") -> WorldModel:
    """The world model of a run, in eval() on `device`.

    run: the run folder, finished or not. checkpoint: `best` (lowest validation loss), `last`, or the folder of one
    checkpoint. Weights are verified against the checkpoint's manifest. A backbone of your own is found when the run
    named its module in `plugins`, or when you imported it before.

    Raises `ValueError` when this is no run folder, has no such checkpoint, or the checkpoint is damaged
    (`CheckpointCorrupt`) or belongs to another config, and for a device that this machine has not.
    """
    folder = user_folder(run)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch was built without it
        raise ValueError(f"device: {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    config = run_config(folder)
    path = find_checkpoint(folder, checkpoint)
    model = _initial_model(config, folder)
    weights = load_weights(path)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} is not of the model that {folder / 'config.json'} describes: {error}") from error
    return model.to(device).eval()


def save(model: WorldModel, folder: str | Path, world: str | World | None = None) -> Path:
    """Write a model of a training loop of your own to `folder`, from which `load` and `wmkit evaluate` read it.

    world: the one it was trained on, on whose held-out episodes `wmkit evaluate` and `wmkit imagine` try it; None: they
    ask for `--episodes-from`. What `save` wrote there before is replaced. A backbone of your own needs a registered
    name; the module that registers it is noted, and imported by `load`. Optimiser and random state are not saved: to go
    on training, keep them yourself.

    Raises `ValueError` for a model whose backbone has no registered config, and for a folder that holds something else,
    and for a world of other shapes.
    """
    from wmkit.training.run_folder import SAVED, RunFolder

    if not isinstance(model, WorldModel):
        raise ValueError(f"save: expected a WorldModel first, then a folder, got {type(model).__name__}")
    if model.built_as is None:
        raise ValueError(
            "save: the backbone has no registered config from which it could be built again; give its class a name "
            "with @register_backbone and build the model from the name or the config, or keep model.state_dict()"
        )
    path = user_folder(folder)
    if path.exists() and not path.is_dir():
        raise ValueError(f"save: {path} is not a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / SAVED).exists():
        raise ValueError(f"save: {path} holds something else than what save wrote; nothing was changed, name another")
    backbone, size = model.built_as
    entry = entry_of(backbone)
    assert entry is not None, "built from a registered config"
    module = entry.cls.__module__
    plugins = [] if module.partition(".")[0] in ("wmkit", "__main__") else [module]
    config = RunConfig(backbone=backbone, size=size, model=model.config, plugins=plugins)
    if world is not None:
        config = dataclasses.replace(config, world=world)
        ours, theirs = ((tuple(x.image_shape), x.action_dim) for x in (model, config.world))
        if ours != theirs:
            raise ValueError(
                f"save: images and actions of {config.world.name} are {theirs}, those of the model {ours}: name the "
                "world it was trained on, or none"
            )
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / SAVED, {"world": world is not None})
    RunFolder(path).describe(config, model.image_shape, model.action_dim)
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    CheckpointFolder(path / "checkpoints").save(Checkpoint(0, config.to_dict(), weights, {}), is_best=True)
    return path


def run_config(run: Path) -> RunConfig:
    """The config of a run; raises `ValueError` where there is none."""
    path = run / "config.json"
    if run.is_file():
        raise ValueError(f"{run} is a file, expected the folder of a run: say {run.parent}")
    if not path.is_file():
        what = "has no config.json" if run.is_dir() else "does not exist"
        raise ValueError(f"{run} {what}: expected the folder of a run, such as runs/memory_maze-ray_maze_9x9-s4-0")
    return load_config(path)


def find_checkpoint(run: Path, checkpoint: str | Path = BEST) -> Path:
    """The folder of the checkpoint `best`, `last` or at a path; raises `ValueError` where there is none."""
    checkpoints = CheckpointFolder(run / "checkpoints")
    steps = checkpoints.steps()
    if checkpoint not in (BEST, LAST):
        if not Path(checkpoint).is_dir():
            raise ValueError(f"checkpoint: expected 'best', 'last' or the folder of a checkpoint, got {checkpoint!r}")
        return Path(checkpoint)
    if not steps:
        raise ValueError(f"{run} has no checkpoint yet: let it train up to its first one (train.checkpoint_every)")
    best = checkpoints.best()
    if checkpoint == BEST and best is None:
        from wmkit.training.log import read_lines

        lines = read_lines(run / "metrics.jsonl")
        losses = [line["values"].get("loss") for line in lines if line["split"] == "valid"]
        why = "it was not validated yet"
        if losses:
            lost = any(loss is not None and math.isfinite(loss) for loss in losses)
            why = "its link was lost, as in some copies" if lost else "no validation had a finite loss"
        raise ValueError(
            f"{run} has no best checkpoint, {why}; --checkpoint last (in Python checkpoint='last') is step {steps[-1]}"
        )
    return best if checkpoint == BEST and best is not None else checkpoints.folder(steps[-1])


def _initial_model(config: RunConfig, run: Path) -> WorldModel:
    """The model at its initial weights; the global random state is left as it was."""
    from wmkit.training.loop import build_model
    from wmkit.training.runtime import torch_defaults

    path = run / "shapes.json"
    try:
        shapes = json.loads(path.read_text(encoding="utf-8"))
        channels, height, width = shapes["image_shape"]
        action_dim = int(shapes["action_dim"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not say the shapes of the run's images and actions: {error}") from error
    with torch_defaults(), torch.random.fork_rng(devices=[]):
        return build_model(config, (channels, height, width), action_dim)
