"""Open-loop prediction: observe C frames, imagine H more without looking, compare each with what was to be seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.baselines import black, copy_last_frame, mean_image, other_clip
from wmkit.evaluation.digits.probe import Probe
from wmkit.evaluation.digits.truth import Digits, judge
from wmkit.evaluation.errors import Errors
from wmkit.evaluation.rollout import check_lengths, evaluating, groups_of_rows, rows_of
from wmkit.evaluation.video.report import (
    BLACK,
    COPY_LAST,
    GENERATION,
    LESS_IS_BETTER,
    MEAN_IMAGE,
    OTHER_CLIP,
    TRUE_FRAMES,
    VideoEvaluation,
    best_of,
)
from wmkit.evaluation.video.similarity import SIMILARITIES
from wmkit.world_model import WorldModel

Scores = dict[str, Tensor]
"""Metric -> (B, H)."""


def evaluate_video(
    model: WorldModel,
    batch: Batch,
    *,
    context: int,
    horizon: int,
    samples: int = 1,
    seed: int = 0,
    training_frames: Tensor | None = None,
    probe: Probe | None = None,
    notes: Mapping[str, str] | None = None,
) -> VideoEvaluation:
    """Scores of `model` and of the floors on N >= 2 held-out clips, frame by frame.

    batch: clips of at least context + horizon frames, with `digits.truth.KEYS` as extras where there is a `probe` (see
    `fit_frame_probe`), which then reads digits from every predictor's frames and from the true ones: the ceiling.
    samples: N futures of each clip, the context's latents drawn anew for each; beside the first one stands the best of
    them, chosen per clip and metric by the mean over frames. training_frames: (M, T, C, H, W) uint8 for the mean
    image; None takes the contexts. Everything is drawn from `seed`.

    Raises `ValueError` for too few or too short clips and samples < 1.
    """
    check_lengths(batch, context, horizon)
    if samples < 1:
        raise ValueError(f"samples: expected 1 or more, got {samples}")
    batch = batch.window(0, context + horizon)
    query = batch.window(context, context + horizon)
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        drawn = [_scores(futures(model, batch, context, generator), query, probe) for _ in range(samples)]
        rows = {GENERATION: drawn[0]}
        if samples > 1:
            rows[best_of(samples)] = {metric: _best(metric, [one[metric] for one in drawn]) for metric in drawn[0]}
        reference = batch.image[:, :context] if training_frames is None else training_frames
        for name, frames in _floors(batch.image, mean_image(reference), context, horizon).items():
            rows[name] = _scores(iter([frames]), query, probe)
        if probe is not None:
            rows[TRUE_FRAMES] = _digit_scores(query.image, query, probe)
    curves: dict[str, dict[str, Errors]] = {metric: {} for metric in rows[GENERATION]}
    for predictor, scores in rows.items():
        for metric, values in scores.items():
            curves[metric][predictor] = Errors(values)
    return VideoEvaluation(context, samples, curves, notes or {})


def futures(model: WorldModel, batch: Batch, context: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One sampled future of every clip (b, H, C, H, W) on the CPU, some clips at a time; latents of the context too."""
    noise = model.draw_noise(*batch.shape, generator)
    for rows in groups_of_rows(batch):
        part, own = rows_of(batch, rows).to(model.device), noise[rows]
        before = model.initial_state(part.shape[0], context)
        _, state = model.observe(
            part.image[:, :context], part.action[:, :context], state=before, noise=own[:, :context]
        )
        imagined = model.imagine(part.action[:, context:], state, noise=own[:, context:])
        yield model.decode(imagined.features).float().cpu()


def _floors(image: Tensor, mean: Tensor, context: int, horizon: int) -> dict[str, Tensor]:
    """Predictions that know nothing of motion, each (N, H, C, H, W), views but for the other clip."""
    query = image[:, context : context + horizon]
    return {
        BLACK: black(image).expand_as(query),
        MEAN_IMAGE: mean.expand_as(query),
        COPY_LAST: copy_last_frame(image, context, horizon),
        OTHER_CLIP: other_clip(image, context, horizon),
    }


def _scores(parts: Iterator[Tensor], query: Batch, probe: Probe | None) -> Scores:
    """All metrics of predicted frames that come some clips at a time, in order."""
    found: list[Scores] = []
    start = 0
    for frames in parts:
        truth = rows_of(query, slice(start, start + len(frames)))
        scores = {name: metric(frames, truth.image) for name, metric in SIMILARITIES.items()}
        found.append(scores | ({} if probe is None else _digit_scores(frames, truth, probe)))
        start += len(frames)
    return {metric: torch.cat([scores[metric] for scores in found]) for metric in found[0]}


def _digit_scores(frames: Tensor, truth: Batch, probe: Probe) -> Scores:
    return judge(probe.read(frames), Digits.of(truth))


def _best(metric: str, drawn: list[Tensor]) -> Tensor:
    """(N, H): of each row the sample with the best mean over frames."""
    scores = torch.stack(drawn)
    means = scores.mean(-1)
    chosen = means.argmin(0) if metric in LESS_IS_BETTER else means.argmax(0)
    return scores[chosen, torch.arange(scores.shape[1])]
