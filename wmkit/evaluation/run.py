"""Everything about one run: errors, verdicts and pictures, from its best checkpoint to its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import torch
from rich.console import Console
from torch import Tensor

from wmkit.config import RunConfig
from wmkit.data import EpisodeSource, World, open_source
from wmkit.evaluation.film import Film, write_gif
from wmkit.evaluation.held_out import in_batches, query_of, whole_episodes
from wmkit.evaluation.protocol import evaluate, make_film
from wmkit.evaluation.report import Evaluation
from wmkit.evaluation.rewards import RewardAccuracy, has_answers, reward_accuracy
from wmkit.evaluation.rollout import rows_of
from wmkit.evaluation.table import markdown, sheets
from wmkit.evaluation.tiles import KEYS
from wmkit.loading import find_checkpoint, load, run_config
from wmkit.training.checkpoints import BEST
from wmkit.training.machine_data import check_local_data
from wmkit.world_model import WorldModel

TRAINING_EPISODES = 16
"""Episodes of the training split that the mean image is taken over."""
SHOWN = 4
"""Episodes in the pictures."""


def evaluate_run(
    run: str | Path,
    *,
    checkpoint: str | Path = BEST,
    held_out: str | Path | World | None = None,
    out: str | Path | None = None,
    console: Console | None = None,
) -> Evaluation:
    """Evaluate a run on held-out episodes as its config's `eval` says; print the table and the verdicts.

    held_out: a world's name or an archive of split `test`; None: the run's world. Writes `evaluation.json`,
    `evaluation.md` and `pictures/{strip.png, imagination.gif, error_curve.png}` into the folder `out`; None: into the
    run folder, or its `held_out/NAME`, where what the run says of itself stays. Raises `ValueError` as `wmkit.load`
    does and for episodes that are too few, too short or of other shapes.
    """
    folder = Path(run)
    config = run_config(folder)
    if held_out is None:
        check_local_data(folder, config.world)
    checkpoint = find_checkpoint(folder, checkpoint)
    model = load(folder, checkpoint, device=device_for(config))
    is_folder = isinstance(held_out, str | Path) and Path(held_out).is_dir()
    context, horizon = query_of(config, world=None if is_folder else cast("str | World | None", held_out))
    length = context + horizon
    source = open_source(held_out or config.world, seed=config.data.seed, split="test")
    atlas = _atlas_of(source)
    keys = () if atlas is None else KEYS
    batch = whole_episodes(config, model, "test", config.eval.episodes, length, held_out, keys)
    frames = None if held_out else whole_episodes(config, model, "train", TRAINING_EPISODES, length).image
    evaluation = evaluate(
        model, batch, context=context, horizon=horizon, seed=config.seed, training_frames=frames, atlas=atlas
    )
    evaluation = dataclasses.replace(evaluation, rewards=_rewards(config, model, source, context))
    film = make_film(model, rows_of(batch, slice(0, SHOWN)), context=context, horizon=horizon, seed=config.seed)
    label = held_out.name if isinstance(held_out, World) else str(held_out)
    usual = folder if held_out is None else folder / "held_out" / Path(label).name
    place = usual if out is None else Path(out)
    what = config.world.name if held_out is None else label
    _write(place, config, evaluation, film, checkpoint=checkpoint.name, episodes_of=what)
    _print(console or Console(), evaluation, place)
    return evaluation


def device_for(config: RunConfig) -> torch.device:
    """Where the run's config wants it: `auto` takes the accelerator that is there."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found if found is not None and config.train.device == "auto" else torch.device("cpu")


def _atlas_of(source: EpisodeSource) -> Tensor | None:
    """(K, ts, ts, C) uint8 pictures of the tiles, where the episodes are made of tiles and have doors."""
    episode = source.episode(0)
    return torch.from_numpy(episode["atlas"]) if {"atlas", *KEYS} <= episode.keys() else None


def _rewards(config: RunConfig, model: WorldModel, source: EpisodeSource, context: int) -> RewardAccuracy | None:
    """On whole episodes, whatever the horizon; None where the model predicts no rewards or nothing is asked."""
    if model.reward is None or not has_answers(next(in_batches(source, 1))):
        return None
    count = min(config.eval.reward_episodes, source.num_episodes or config.eval.reward_episodes)
    return reward_accuracy(model, in_batches(source, count), context=context, seed=config.seed)


def _write(folder: Path, config: RunConfig, evaluation: Evaluation, film: Film, **of: str) -> None:
    from wmkit.evaluation.figures import draw_curve, draw_strip

    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    title = f"{config.backbone_name} ({config.size}) on {of['episodes_of']}"
    evaluation.save(folder / "evaluation.json", **of)
    (folder / "evaluation.md").write_text(markdown(evaluation), encoding="utf-8")
    draw_strip(film, pictures / "strip.png", title)
    write_gif(film, pictures / "imagination.gif")
    draw_curve(evaluation, pictures / "error_curve.png", title)


def _print(console: Console, evaluation: Evaluation, folder: Path) -> None:
    for sheet in sheets(evaluation):
        console.print(sheet.rich())
    for verdict in evaluation.verdicts():
        console.print(str(verdict), style="green" if verdict.holds else "red", highlight=False)
    console.print(f"Pictures in {folder / 'pictures'}", highlight=False)
