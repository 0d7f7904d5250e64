"""A run is measured: at validations while it trains, and after it, from one of its checkpoints to its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from wmkit.config import RunConfig
from wmkit.data import EpisodeSource, GeneratedEpisodes, World
from wmkit.evaluation.claims import FEW_STEPS
from wmkit.evaluation.evaluate import choose, make_video, measure_episodes, measure_query
from wmkit.evaluation.held_out import (
    context_and_horizon,
    held_out,
    in_batches,
    other_episodes,
    read_episodes,
    training_frames,
    training_of,
    whole_episodes,
)
from wmkit.evaluation.measures.base import Measure, Setting, all_measures, find_measures
from wmkit.evaluation.plots.video import Picture, Video, heading, sheet, strip_times, write_video
from wmkit.evaluation.predictors import IMAGINED, OBSERVED
from wmkit.evaluation.record import Measurements
from wmkit.evaluation.rollout import joined, rows_of
from wmkit.evaluation.tables import measure_tables
from wmkit.files import user_folder, write_text
from wmkit.loading import find_checkpoint, load, run_config
from wmkit.training.batches import training_source, validation_source, without_test_archive
from wmkit.training.checkpoints import BEST, CheckpointFolder
from wmkit.training.run_folder import SAVED, check_local_data
from wmkit.training.runtime import torch_defaults
from wmkit.training.threads import fitting_threads
from wmkit.world_model import WorldModel

SHOWN = 4
"""Episodes in the pictures."""
LATEST = "latest"
"""The picture of a validation."""


@torch_defaults()
@fitting_threads()
def evaluate_run(
    run: str | Path,
    *,
    checkpoint: str | Path = BEST,
    measures: Sequence[str | Measure] | None = None,
    episodes: int | None = None,
    episodes_from: str | Path | World | None = None,
    context: int | None = None,
    horizon: int | None = None,
    samples: int = 1,
    seed: int | None = None,
    out: str | Path | None = None,
    console: Console | None = None,
) -> Measurements:
    """Measure a run on held-out episodes, print tables and verdicts, and fill its folder.

    measures: names, or objects; None: those that apply and do not take long; `["all"]`: all that apply. episodes,
    context, horizon, seed: None takes what the run's config says, or its world or test archive (of which fewer episodes
    are taken where there are no more). episodes_from: a world, or an archive of split `test`; None: the run's own test
    episodes, of its world or its test archive. samples: imagined futures of each episode, see `evaluate`.

    Writes `records.parquet`, `evaluation.json`, `evaluation.md` and `pictures/{strip.png, imagined.gif, curves.png}`
    into the folder `out`; None: into the run folder, or its `held_out/NAME` for episodes from elsewhere. Measures that
    were asked for by name join those that the folder has of the same checkpoint and episodes; a sentence on the console
    says which earlier records are replaced.

    Raises `ValueError` as `wmkit.load` does, for episodes that are too few, too short or of other shapes, and for
    measures that are unknown or do not apply; `OSError` where `out` cannot be written to.
    """
    folder = user_folder(run)
    config = run_config(folder)
    if measures is not None:
        find_measures([one for one in measures if isinstance(one, str) and one != "all"])  # before anything is loaded
    if episodes_from is None:
        check_local_data(folder, config.world)
    path = find_checkpoint(folder, checkpoint)
    model = load(folder, path, device=device_for(config))
    label, usual = other_episodes(folder, config, episodes_from)
    place = usual if out is None else user_folder(out)
    context, horizon = context_and_horizon(config, context, horizon, episodes_from=episodes_from)
    seed = config.seed if seed is None else seed
    console = console or Console()

    def training(length: int) -> EpisodeSource:
        check_local_data(folder, config.world)
        return training_of(config)(length)

    if episodes_from is None:
        for sentence in without_test_archive(config):
            console.print(sentence, highlight=False, markup=False)
    source = held_out(config, episodes_from)
    setting = Setting(model, context, horizon, seed, source.episode(0), training)
    chosen, on_episodes = (choose(setting, measures, whole_episodes=whole) for whole in (False, True))
    everything = (
        [cls() for cls in all_measures().values()] if measures is not None and list(measures) == ["all"] else []
    )
    if lacking := [one.name for one in everything if one.applies(setting) and one.lacks()]:
        names = ", ".join(lacking)
        console.print(f"Not measured: {names}. Ask for one by name to read what it lacks.", markup=False)
    number, length = episodes or config.eval.episodes, context + horizon
    keys = sorted({key for measure in chosen for key in measure.keys})
    batch = whole_episodes(config, model, "test", number, length, episodes_from, keys, or_fewer=episodes is None)
    if batch.shape[0] < number:
        console.print(
            f"{label} has {batch.shape[0]} episodes of {length} steps or more, all are taken (asked for: {number}).",
            highlight=False,
            markup=False,
        )
    frames = None if episodes_from else training_frames(config, model, length)
    (place / "pictures").mkdir(parents=True, exist_ok=True)  # a place that refuses says so before the long part
    measurements = measure_query(setting, chosen, batch, samples=samples, training_frames=frames)
    wanted = episodes or config.eval.reward_episodes
    count = min(wanted, source.num_episodes or wanted)
    if measures is None and (partial := [one for one in on_episodes if not _of_all(one, setting, source, count)]):
        names = ", ".join(one.name for one in partial)
        console.print(f"Not measured: {names}, for which not all episodes of {label} have what it takes.", markup=False)
        on_episodes = [one for one in on_episodes if one not in partial]
    if on_episodes:
        measurements = measurements.joined(_on_episodes(setting, on_episodes, source, count))
    about = {
        "run": folder.name,
        "world": config.label,
        "seed": config.seed,
        "checkpoint": path.name,
        "episodes_of": label,
        "evaluation_seed": seed,
    }
    trained = max(CheckpointFolder(folder / "checkpoints").steps(), default=FEW_STEPS)
    early = trained if trained < FEW_STEPS and not (folder / SAVED).exists() else None  # one's own loop says no steps
    verdicts = tuple(dataclasses.replace(verdict, early=early) for verdict in measurements.verdicts)
    measurements = dataclasses.replace(measurements, about=about | dict(measurements.about), verdicts=verdicts)
    shown = rows_of(batch, slice(0, SHOWN))
    video = make_video(model, shown, context=context, horizon=horizon, seed=seed, no_memory=True)
    write_video(video, place / "pictures" / "imagined.gif")
    whole = measurements if measures is None else measurements.with_older(place)
    if replaced := whole.replaces(place):
        console.print(replaced, highlight=False, markup=False, soft_wrap=True)
    on = label if episodes_from else config.label
    _write(whole, video, place, f"{config.backbone_name} ({config.size}) on {on}")
    for table in measure_tables(measurements):
        console.print(table.rich())
    for verdict in measurements.verdicts:
        style = "green" if verdict.holds else "red" if verdict.early is None else "yellow"
        console.print(str(verdict), style=style, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Pictures in {place / 'pictures'}", highlight=False, markup=False, soft_wrap=True)
    return measurements


def device_for(config: RunConfig) -> torch.device:
    """Where the run's config wants it: `auto` takes the accelerator that is there."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found if found is not None and config.train.device == "auto" else torch.device("cpu")


def _write(measurements: Measurements, video: Video, folder: Path, title: str) -> None:
    """Write records, tables and pictures into the folder."""
    from wmkit.evaluation.plots.figures import draw_curves, draw_strip  # brings matplotlib

    measurements.save(folder)
    text = "\n".join(table.markdown() for table in measure_tables(measurements))
    verdicts = "".join(f"- {verdict}\n" for verdict in measurements.verdicts)
    write_text(folder / "evaluation.md", f"{text}\n{verdicts}")
    draw_strip(video, folder / "pictures" / "strip.png", title)
    draw_curves(measurements, folder / "pictures" / "curves.png", title)


def _of_all(measure: Measure, setting: Setting, source: EpisodeSource, count: int) -> bool:
    """Whether a measure that applies to the first episode applies to all: to those of a world it does."""
    if isinstance(source, GeneratedEpisodes):
        return True
    return all(measure.applies(dataclasses.replace(setting, episode=source.episode(i))) for i in range(count))


def _on_episodes(setting: Setting, measures: Sequence[Measure], source: EpisodeSource, count: int) -> Measurements:
    """The measures of whole episodes, on the first `count` ones, less those that are no longer than the context."""
    keys = sorted({key for measure in measures for key in measure.keys})
    return measure_episodes(setting, measures, in_batches(source, count, keys, least=setting.context + 1))


class HeldOutValidation:
    """What validations measure and draw beside the loss.

    The measures with a `validated` metric, where some apply, on the first `eval.valid_reward_episodes` episodes of the
    held-out split, read anew each time; and `latest`, a picture of the first few episodes of that split: truth above
    the model, which observes the context and imagines the rest. Latents are the same samples at each validation: what
    changes is the model.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        number, like = config.eval.valid_reward_episodes, training_source(config)
        self.source = validation_source(config, like, episodes=number)
        self.count = min(number, self.source.num_episodes or 0)
        self.first = self.source.episode(0)
        wanted = {key for cls in all_measures().values() if _validated(cls) for key in cls.keys}
        self.keys = sorted(wanted & self.first.keys())
        self._partial: set[str] | None = None
        # Episodes may be shorter than the evaluation at the end wants them: then what there is of them is shown.
        shown = range(min(SHOWN, self.count))
        length = min((self.source.episode_length(index) for index in shown), default=0)
        context, horizon = context_and_horizon(config)
        context = context if context < length else length // 2
        self.query = context, min(horizon, length - context)
        data = dataclasses.replace(config.data, episode_length=max(1, sum(self.query)))  # a world draws no further
        source = validation_source(dataclasses.replace(config, data=data), like, episodes=SHOWN)
        self.shown = read_episodes(source, shown, sum(self.query)) if context > 1 else None

    @property
    def pictures(self) -> tuple[str, ...]:
        """Names of the pictures that a validation draws; none where episodes are of three steps or fewer."""
        return () if self.shown is None else (LATEST,)

    def __call__(self, model: WorldModel) -> dict[str, float | Picture]:
        """`MEASURE_PREDICTOR` of every validated metric: the means of `observed` and `imagined` over episodes; and
        the picture, (height, width, 3) uint8.
        """
        context, horizon = context_and_horizon(self.config)
        setting = Setting(model, context, horizon, self.config.seed, self.first, training_of(self.config))
        whole, query = (
            [one for one in choose(setting, None, whole_episodes=x) if _validated(one)] for x in (True, False)
        )
        if self._partial is None:  # known after the first validation: what applies does not change
            self._partial = {one.name for one in whole if not _of_all(one, setting, self.source, self.count)}
        whole = [one for one in whole if one.name not in self._partial]
        found = []
        if whole:
            found.append(_on_episodes(setting, whole, self.source, self.count))
        if query:
            batches = in_batches(self.source, self.count, self.keys, least=context + horizon)
            batch = joined([part.window(0, context + horizon) for part in batches])
            found.append(measure_query(setting, query, batch))
        figures: dict[str, float | Picture] = {
            f"{measure}_{name}": part.estimate(measure, name).mean
            for part in found
            for measure in part.measures
            for name in (OBSERVED, IMAGINED)
            if part.metrics[measure].validated and name in part.predictors(measure)
        }
        if self.shown is None:
            return figures
        context, horizon = self.query
        times = strip_times(context, horizon)
        video = make_video(model, self.shown, context=context, horizon=horizon, seed=self.config.seed, times=times)
        return figures | {LATEST: sheet(video, [heading(time, context) for time in times])}


def _validated(measure: Measure | type[Measure]) -> bool:
    return any(metric.validated for metric in measure.metrics)
