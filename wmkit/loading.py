"""`wmkit.load`: from a run folder to a model ready to observe and imagine."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

from wmkit.config import RunConfig, load_config
from wmkit.files import user_path
from wmkit.training.checkpoints import BEST, CheckpointFolder, load_weights
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
    folder = Path(user_path(str(run)))
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


def run_config(run: Path) -> RunConfig:
    """The config of a run; raises `ValueError` where there is none."""
    path = run / "config.json"
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
