"""The open-loop evaluation of a run, from its checkpoint to its folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from wmkit.config import RunConfig
from wmkit.data import EpisodeSource, open_source
from wmkit.data.episode import Episode
from wmkit.evaluation.digits.frames import fit_probe_of_run
from wmkit.evaluation.digits.probe import Probe
from wmkit.evaluation.digits.truth import KEYS
from wmkit.evaluation.held_out import query_of, whole_episodes
from wmkit.evaluation.run import TRAINING_EPISODES, device_for
from wmkit.evaluation.video.open_loop import evaluate_video
from wmkit.evaluation.video.report import VideoEvaluation
from wmkit.loading import load, run_config
from wmkit.training.checkpoints import BEST
from wmkit.training.machine_data import check_local_data

DIGIT_SOURCES = ("scikit-learn's", "MNIST's")


def evaluate_video_run(
    run: str | Path,
    *,
    context: int | None = None,
    horizon: int | None = None,
    clips: int = 100,
    samples: int = 1,
    seed: int = 0,
    checkpoint: str | Path = BEST,
    held_out: str | Path | None = None,
    console: Console | None = None,
) -> VideoEvaluation:
    """Open-loop scores of a run on held-out clips; prints the tables, writes `video.json` and `pictures/video.png`.

    context, horizon: None takes what the run or its world says. clips, samples: the papers' protocol has 100 and 1.
    held_out: a world or an archive of split `test`; None: the run's world. In a world of moving digits a probe is
    fitted to frames of the run's training split first. Raises `ValueError` as `wmkit.load` does, and for clips that
    are too few, too short or of other shapes.
    """
    folder = Path(run)
    config = run_config(folder)
    check_local_data(folder, config.world)  # of which training frames and the probe are
    model = load(folder, checkpoint, device=device_for(config))
    context, horizon = query_of(config, context, horizon)
    length = context + horizon
    source = open_source(held_out or config.world, seed=config.data.seed, split="test")
    first = source.episode(0)
    has_digits = set(KEYS) <= first.keys()
    batch = whole_episodes(config, model, "test", clips, length, held_out, KEYS if has_digits else ())
    frames = None if held_out else whole_episodes(config, model, "train", TRAINING_EPISODES, length).image
    evaluation = evaluate_video(
        model,
        batch,
        context=context,
        horizon=horizon,
        samples=samples,
        seed=seed,
        training_frames=frames,
        probe=_probe(config, source, seed) if has_digits else None,
        notes=notes_on(first, frames is not None),
    )
    _write(evaluation, folder, f"{config.backbone_name} ({config.size}) on {config.world.name}")
    _print(console or Console(), evaluation, folder)
    return evaluation


def notes_on(held_out: Episode, training_frames: bool) -> dict[str, str]:
    """What a table of similarities must say: of which frames the mean image is, and which digits were shown."""
    notes = {"mean image of": "training frames" if training_frames else "the held-out contexts"}
    if "digit_source" in held_out:
        notes["digits"] = DIGIT_SOURCES[int(held_out["digit_source"])]
    return notes


def _probe(config: RunConfig, held_out: EpisodeSource, seed: int) -> Probe:
    """Fitted to the training split of the run's world; frames of another shape it could not read."""
    own = open_source(config.world, seed=config.data.seed, split="train").image_shape
    if tuple(own) != tuple(held_out.image_shape):
        raise ValueError(f"{config.world.name} has images {own}, the held-out clips {held_out.image_shape}")
    return fit_probe_of_run(config, seed)


def _write(evaluation: VideoEvaluation, folder: Path, title: str) -> None:
    from wmkit.evaluation.video.figures import draw_video_curves

    (folder / "pictures").mkdir(exist_ok=True)
    evaluation.save(folder / "video.json")
    draw_video_curves(evaluation, folder / "pictures" / "video.png", title)


def _print(console: Console, evaluation: VideoEvaluation, folder: Path) -> None:
    for sheet in evaluation.sheets():
        console.print(sheet.rich())
    console.print(f"Curves in {folder / 'video.json'}, drawn in {folder / 'pictures' / 'video.png'}", highlight=False)
