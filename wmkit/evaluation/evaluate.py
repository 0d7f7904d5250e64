"""The context|query protocol: observe C steps, imagine the next H with the true actions, compare with what happened.

Time: `image[:, :C]` is the context; query step h = 1..H predicts `image[:, C + h - 1]` with the actions up to the one
that led to it. The model observes the context in one pass, imagines in single steps from the state that it left behind,
and decodes only afterwards (S4WM, Deng et al. 2023, section 5). Some rows are read at a time, their frames are decoded
row by row and handed to every measure that asks for them; no frame is kept.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.data import EpisodeSource
from wmkit.evaluation.estimates import MIDDLE, cut
from wmkit.evaluation.measures.base import Measure, Prediction, SetMeasure, Setting, all_measures, find_measures
from wmkit.evaluation.plots.video import Video
from wmkit.evaluation.predictors import (
    BEST_OF_N,
    IMAGINED,
    NO_MEMORY,
    OBSERVED,
    SHUFFLED_ACTIONS,
    Clips,
    Frames,
    make_baselines,
    mean_image,
)
from wmkit.evaluation.record import SCHEMA, Measurements, frame_of
from wmkit.evaluation.rollout import (
    check_lengths,
    evaluating,
    forgotten,
    groups_of_rows,
    imagine,
    joined,
    observe,
    rows_of,
)
from wmkit.world_model import WorldModel

_SAMPLE = "sample/"
"""Before the number of a further imagined future, of which only the best is kept."""


def evaluate(
    model: WorldModel,
    batch: Batch,
    *,
    context: int,
    horizon: int,
    measures: Sequence[str | Measure] | None = None,
    samples: int = 1,
    seed: int = 0,
    training_frames: Tensor | None = None,
    training: Callable[[int], EpisodeSource] | None = None,
) -> Measurements:
    """Measure `model` and the baselines on the query of held-out episodes.

    batch: N >= 2 whole episodes of at least context + horizon steps, with the ground truth that measures read as
    extras; what is longer is left out. measures: names, or objects with settings of their own; None: those that apply
    and do not take long; `["all"]`: all that apply. samples: imagined futures of each episode, the context's latents
    drawn anew for each; the first is `imagined`, with several there is `best_of_n` too. training_frames: (M, T, C, H,
    W) uint8 for the mean image; None takes the contexts. training: from a number of steps to training episodes of that
    length, for what is fitted, such as probes.

    Latents are drawn from `seed`; `shuffled_actions` gives row i the actions of row i - 1 and its own noise, unless all
    rows do the same in query steps 1..20. Raises `ValueError` for too few or too short episodes, unknown measures, and
    measures that do not apply although they were named.
    """
    check_lengths(batch, context, horizon)
    if samples < 1:
        raise ValueError(f"samples: expected 1 or more, got {samples}")
    batch = batch.window(0, context + horizon)
    setting = Setting(model, context, horizon, seed, first_of(batch), training)
    chosen = choose(setting, measures, whole_episodes=False)
    return measure_query(setting, chosen, batch, samples=samples, training_frames=training_frames)


def evaluate_episodes(
    model: WorldModel,
    batches: Iterable[Batch],
    *,
    context: int,
    measures: Sequence[str | Measure] | None = None,
    seed: int = 0,
) -> Measurements:
    """Measure whole episodes, those of a batch of equal length, read batch by batch, such as those of `in_batches`.

    measures: as in `evaluate`, of those that are about whole episodes. Latents are samples, drawn from `seed`. Raises
    `ValueError` as `evaluate` does.
    """
    following = iter(batches)
    first = next(following)
    check_lengths(first, context, first.shape[1] - context)
    setting = Setting(model, context, first.shape[1] - context, seed, first_of(first))
    chosen = choose(setting, measures, whole_episodes=True)
    return measure_episodes(setting, chosen, itertools.chain([first], following))


def first_of(batch: Batch) -> dict[str, Tensor]:
    """`Setting.episode` of a batch: what holds for each step (T, ...) of its first row, its extras too."""
    steps = ("image", "action", "reward", "is_first", "is_terminal")
    return {name: getattr(batch, name)[0] for name in steps} | {name: value[0] for name, value in batch.extras.items()}


def choose(setting: Setting, measures: Sequence[str | Measure] | None, *, whole_episodes: bool) -> list[Measure]:
    """The measures of one kind that apply: those named, or all that do not take long.

    Raises `ValueError` for a name that is unknown, and for a named one that does not apply or lacks something.
    """
    if measures is None or list(measures) == ["all"]:
        classes = [cls for cls in all_measures().values() if cls.by_default or measures is not None]
        made = [cls() for cls in classes if cls.whole_episodes is whole_episodes]
        return [one for one in made if one.applies(setting) and not one.lacks()]
    made = [one if isinstance(one, Measure) else find_measures([one])[0]() for one in measures]
    made = [one for one in made if one.whole_episodes is whole_episodes]
    for one in made:
        if not one.applies(setting):
            keys = f" (it reads {', '.join(one.keys)})" if one.keys else ""
            raise ValueError(f"The measure {one.name!r} does not apply to this model and these episodes{keys}")
        if lacking := one.lacks():
            raise ValueError(f"The measure {one.name!r} cannot be taken. {lacking}")
    return made


def measure_query(
    setting: Setting,
    measures: Sequence[Measure],
    batch: Batch,
    *,
    samples: int = 1,
    training_frames: Tensor | None = None,
) -> Measurements:
    """Measure the query of `batch` (N, C + H); see `evaluate`."""
    model, context, horizon = setting.model, setting.context, setting.horizon
    query = batch.window(context, context + horizon)
    with torch.enable_grad():  # validations run without, and probes are fitted
        for measure in measures:
            measure.prepare(setting, query)
    wanted = {name for measure in measures for name in measure.predictors}
    generator = torch.Generator().manual_seed(setting.seed)
    more = torch.Generator().manual_seed(setting.seed + 1)  # further samples leave the first one as it is
    once = torch.Generator().manual_seed(setting.seed + 2)
    reference = batch.image[:, :context] if training_frames is None else training_frames
    baselines = make_baselines(Clips(batch, context, mean_image(reference), generator))
    shuffled = _other_action(batch.action, context, horizon) if SHUFFLED_ACTIONS in wanted else None
    baselines = {name: frames for name, frames in baselines.items() if name in wanted}
    scores = _Scores(measures, context, horizon)
    with evaluating(model):
        for rows in groups_of_rows(batch) if measures else ():
            part = rows_of(batch, rows).to(model.device)
            observed = observe(model, part, context, generator)
            features = {OBSERVED: observed.features, IMAGINED: imagine(model, observed, part.action[:, context:])}
            if shuffled is not None:
                features[SHUFFLED_ACTIONS] = imagine(model, observed, shuffled[rows, context:])
            if NO_MEMORY in wanted:
                features[NO_MEMORY] = imagine(
                    model, forgotten(model, part, observed, context, once), part.action[:, context:]
                )
            if BEST_OF_N in wanted:
                for sample in range(1, samples):
                    again = observe(model, part, context, more)
                    features[f"{_SAMPLE}{sample}"] = imagine(model, again, part.action[:, context:])
            scores.add(model, features, part, baselines, first=rows.start)
    about = {
        "samples": samples,
        "pixels": batch.image[0, 0].numel(),
        "mean_image_of": "the held-out contexts" if training_frames is None else "training frames",
    }
    return scores.measurements(query, about)


def measure_episodes(setting: Setting, measures: Sequence[Measure], batches: Iterable[Batch]) -> Measurements:
    """Measure whole episodes, read batch by batch: `observed` and `imagined` over all that comes after the context."""
    model, context = setting.model, setting.context
    with torch.enable_grad():
        for measure in measures:
            measure.prepare(setting, None)
    generator = torch.Generator().manual_seed(setting.seed)
    scores, truths = _Scores(measures, context, setting.horizon), []
    with evaluating(model):
        for batch in batches:
            check_lengths(batch, context, batch.shape[1] - context)
            part = batch.to(model.device)
            observed = observe(model, part, context, generator)
            features = {OBSERVED: observed.features, IMAGINED: imagine(model, observed, part.action[:, context:])}
            query = part.window(context, part.shape[1])
            scores.add(model, {name: values[:, context - batch.shape[1] :] for name, values in features.items()}, query)
            truths.append(dataclasses.replace(query, image=query.image[..., :0, :0]).to("cpu"))
    shortest = min(truth.shape[1] for truth in truths)  # of all, the end is judged
    return scores.measurements(joined([one.window(one.shape[1] - shortest, one.shape[1]) for one in truths]), {})


class _Scores:
    """Scores as they come, row by row, and the table that they make."""

    def __init__(self, measures: Sequence[Measure], context: int, horizon: int) -> None:
        self.measures, self.context, self.horizon = measures, context, horizon
        self.found: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        """(rows, T) or (rows,) by metric and predictor, in the order of the rows."""

    def add(
        self,
        model: WorldModel,
        features: Mapping[str, Tensor],
        truth: Batch,
        baselines: Mapping[str, Frames] | None = None,
        first: int = 0,
    ) -> None:
        """Score what is predicted for some rows: features (B, T, F), and frames of the baselines, row by row.

        truth: those rows, at least the steps of the predictions. first: the number of the first one among all.
        """
        for name, values in features.items():
            self._score("features", name, Prediction(model, features=values), truth)
        if not any(measure.needs == "frames" for measure in self.measures):
            return
        for row in range(truth.shape[0]):
            here = slice(row, row + 1)
            one = rows_of(truth, here)
            for name, values in features.items():
                self._score("frames", name, Prediction(model, features=values[here]), one)
            for name, frames in (baselines or {}).items():
                image = frames(first + row)[None].to(one.image.device)
                self._score("frames", name, Prediction(model, frames=image), one)

    def _score(self, kind: str, name: str, prediction: Prediction, truth: Batch) -> None:
        """Let every measure that reads this kind of prediction score it, if it scores this predictor."""
        for measure in self.measures:
            sampled = name.startswith(_SAMPLE) and BEST_OF_N in measure.predictors
            if measure.needs != kind or not (sampled or name in measure.predictors):
                continue
            whole = measure.on_context or measure.whole_episodes
            steps = prediction.steps if whole else min(prediction.steps, self.horizon)
            seen = truth.window(truth.shape[1] - steps, truth.shape[1])
            scores = measure.score(prediction.last(steps), seen)
            past = int(measure.on_context and steps > self.horizon)  # the first step of a context has none
            for metric in measure.metrics:
                values = scores[metric.name]
                if isinstance(measure, SetMeasure):
                    if values.ndim != 2 or len(values) != len(seen.image):
                        raise ValueError(
                            f"Measure {measure.name!r}: expected vectors (rows, F) with {len(seen.image)} rows for "
                            f"{metric.name}, got {tuple(values.shape)}"
                        )
                elif values.shape not in (seen.shape, seen.shape[:1]):
                    raise ValueError(
                        f"Measure {measure.name!r}: expected {metric.name} as (rows, steps) = {tuple(seen.shape)}, or "
                        f"one value per row, got {tuple(values.shape)}"
                    )
                self.found[metric.name, name].append((values[:, past:] if values.ndim > 1 else values).cpu())

    def measurements(self, truth: Batch, about: Mapping[str, Any]) -> Measurements:
        """The table. truth: the query of all rows."""
        metrics = {one.name: one for measure in self.measures for one in measure.metrics}
        found = {key: torch.cat(values) for key, values in self.found.items()}
        counts: dict[str, Tensor] = {}
        for measure in self.measures:
            if isinstance(measure, SetMeasure):
                own = {metric.name for metric in measure.metrics}
                found |= {key: measure.pool(key[0], vectors) for key, vectors in found.items() if key[0] in own}
            counts |= measure.counts(truth)
            for name, scores in measure.answers(truth).items():
                found |= {(one, name): values for one, values in scores.items()}
        for metric in metrics:
            samples = [found.pop(key) for key in list(found) if key[0] == metric and key[1].startswith(_SAMPLE)]
            if samples:
                every = torch.stack([found[metric, IMAGINED], *samples])  # (S, N, T)
                means = every.mean(-1)
                best = means.argmin(0) if metrics[metric].better == "lower" else means.argmax(0)  # (N,)
                found[metric, BEST_OF_N] = every[best, torch.arange(every.shape[1])]
        frames = [pl.DataFrame(schema=SCHEMA)]
        for (metric, name), values in found.items():
            numbers = values.double().numpy()
            if numbers.ndim == 1:
                frames.append(frame_of(metric, name, numbers[:, None], None))
                continue
            before = numbers.shape[1] - truth.shape[1]  # of the context
            known = counts[metric].numpy() if metric in counts else np.ones(truth.shape, bool)
            known = np.pad(known, ((0, 0), (before, 0)), constant_values=True)
            frames.append(frame_of(metric, name, numbers, 1 - before, known))
        return Measurements(pl.concat(frames), metrics, self.context, self.horizon, about).judged()


def _other_action(action: Tensor, context: int, horizon: int) -> Tensor | None:
    """Actions (N, C + H, A) of the row before; None where no row's differ in the steps that a claim judges."""
    other = action.roll(1, dims=0)
    judged = slice(context, context + cut(MIDDLE, horizon)[1])
    return None if torch.equal(other[:, judged], action[:, judged]) else other


def make_video(
    model: WorldModel,
    batch: Batch,
    *,
    context: int,
    horizon: int,
    seed: int = 0,
    times: Sequence[int] | None = None,
    no_memory: bool = False,
) -> Video:
    """The episodes of `batch` as frames: truth, and the model's reconstruction followed by its imagination.

    times: the steps to decode, in order, counted from 0 over context and query; None: all. no_memory: also what the
    model imagines that has seen the last frame of the context alone; of all steps.
    """
    assert times is None or not no_memory, "without memory all steps are decoded"
    check_lengths(batch, context, horizon)
    batch = batch.window(0, context + horizon)
    chosen = list(range(context + horizon)) if times is None else list(times)
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        observed = observe(model, batch, context, generator)
        imagined = imagine(model, observed, batch.action[:, context:])
        frames = model.decode(torch.cat([observed.features[:, :context], imagined], dim=1)[:, chosen])
        without = None
        if no_memory:
            fresh = forgotten(model, batch, observed, context, generator)
            imagined = imagine(model, fresh, batch.action[:, context:])
            without = _to_bytes(model.decode(torch.cat([fresh.features, imagined], dim=1)))
    return Video(batch.image[:, chosen].cpu(), _to_bytes(frames), sum(time < context for time in chosen), without)


def _to_bytes(frames: Tensor) -> Tensor:
    """Decoded frames as uint8 on the CPU."""
    return (frames.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
