"""Everything about one run: errors, verdicts and pictures, from its best checkpoint to its folder."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from wmkit.config import RunConfig
from wmkit.evaluation.film import Film, write_gif
from wmkit.evaluation.held_out import context_length, whole_episodes
from wmkit.evaluation.protocol import evaluate, make_film, rows_of
from wmkit.evaluation.report import Evaluation
from wmkit.evaluation.table import markdown, rich_table
from wmkit.loading import load, run_config
from wmkit.training.checkpoints import BEST

TRAINING_EPISODES = 16
"""Episodes of the training split that the mean image is taken over."""
SHOWN = 4
"""Episodes in the pictures."""


def evaluate_run(
    run: str | Path,
    *,
    checkpoint: str | Path = BEST,
    held_out: str | Path | None = None,
    console: Console | None = None,
) -> Evaluation:
    """Evaluate a run on held-out episodes as its config's `eval` says; print the table and the verdicts.

    held_out: a world's name or an archive of split `test`; None: the run's world. Writes `evaluation.json`,
    `evaluation.md` and `pictures/{strip.png, imagination.gif, error_curve.png}` into the run folder. Raises
    `ValueError` as `wmkit.load` does and for episodes that are too few, too short or of other shapes.
    """
    folder = Path(run)
    config = run_config(folder)
    model = load(folder, checkpoint, device=device_for(config))
    context, horizon = context_length(config, None), config.eval.horizon
    length = context + horizon
    batch = whole_episodes(config, model, "test", config.eval.episodes, length, held_out)
    frames = None if held_out else whole_episodes(config, model, "train", TRAINING_EPISODES, length).image
    evaluation = evaluate(model, batch, context=context, horizon=horizon, seed=config.seed, training_frames=frames)
    film = make_film(model, rows_of(batch, slice(0, SHOWN)), context=context, horizon=horizon, seed=config.seed)
    _write(folder, config, evaluation, film)
    _print(console or Console(), evaluation, folder)
    return evaluation


def device_for(config: RunConfig) -> torch.device:
    """Where the run's config wants it: `auto` takes the accelerator that is there."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found if found is not None and config.train.device == "auto" else torch.device("cpu")


def _write(folder: Path, config: RunConfig, evaluation: Evaluation, film: Film) -> None:
    from wmkit.evaluation.figures import draw_curve, draw_strip

    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    title = f"{config.backbone_name} ({config.size}) on {config.world}"
    evaluation.save(folder / "evaluation.json")
    (folder / "evaluation.md").write_text(markdown(evaluation), encoding="utf-8")
    draw_strip(film, pictures / "strip.png", title)
    write_gif(film, pictures / "imagination.gif")
    draw_curve(evaluation, pictures / "error_curve.png", title)


def _print(console: Console, evaluation: Evaluation, folder: Path) -> None:
    console.print(rich_table(evaluation))
    for verdict in evaluation.verdicts():
        console.print(str(verdict), style="green" if verdict.holds else "red", highlight=False)
    console.print(f"Pictures in {folder / 'pictures'}", highlight=False)
