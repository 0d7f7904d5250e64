"""The context|query protocol: observe C steps, imagine the next H with the true actions, compare with what happened.

Time: `image[:, :C]` is the context; query step h = 1..H predicts `image[:, C + h - 1]` with the actions up to the one
that led to it. The model observes the context in one pass, imagines in single steps from the state which that left
behind, and decodes only afterwards, in chunks (S4WM, Deng et al. 2023, section 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.baselines import copy_last_frame, mean_image, other_random_frame
from wmkit.evaluation.errors import Errors, frame_error
from wmkit.evaluation.film import Film
from wmkit.evaluation.old_predictors import (
    COPY_LAST,
    FIRST_MAP,
    GENERATION,
    MEAN_IMAGE,
    MISLED,
    OTHER_FRAME,
    RECONSTRUCTION,
)
from wmkit.evaluation.ranges import MIDDLE, cut
from wmkit.evaluation.report import Evaluation
from wmkit.evaluation.rollout import check_lengths, evaluating, groups_of_rows, imagine, observe, rows_of
from wmkit.evaluation.tiles import nearest_tiles, picture_of, remembered_map, tile_accuracy
from wmkit.world_model import WorldModel


def evaluate(
    model: WorldModel,
    batch: Batch,
    *,
    context: int,
    horizon: int,
    seed: int = 0,
    training_frames: Tensor | None = None,
    atlas: Tensor | None = None,
) -> Evaluation:
    """Errors of `model` and of the baselines on held-out episodes.

    batch: N >= 2 whole episodes of at least context + horizon steps; what is longer is left out. training_frames:
    (M, T, C, H, W) uint8, of which the mean-image baseline is the mean; None takes the contexts of the episodes
    themselves. atlas: (K, ts, ts, C) uint8 when the frames are made of tiles and the batch has `tiles.KEYS` as extras:
    tiles and doors are then judged too. Latents are samples, drawn from `seed`; `generation, wrong actions` gives row i
    the actions of row i - 1 and its own noise, unless all rows do the same in query steps 1..20. Raises `ValueError`
    for too few or too short episodes.
    """
    check_lengths(batch, context, horizon)
    batch = batch.window(0, context + horizon)
    generator = torch.Generator().manual_seed(seed)
    other_action = _other_action(batch.action, context, horizon)
    reference = batch.image[:, :context] if training_frames is None else training_frames
    baselines = _baselines(batch.image, mean_image(reference), context, horizon, generator)
    groups, tiles = [], []
    with evaluating(model):
        for rows in groups_of_rows(batch):
            other = None if other_action is None else other_action[rows]
            futures = _futures(model, rows_of(batch, rows), other, context, generator)
            groups.append(_model_errors(model, futures, batch.image[rows], context))
            if atlas is not None:
                tiles.append({name: _decoded_tiles(model, x[:, -horizon:], atlas) for name, x in futures.items()})
    ours = _joined(groups)
    query = batch.window(context, context + horizon)
    judged = None
    if atlas is not None:
        baselines[FIRST_MAP] = frame_error(picture_of(remembered_map(query), atlas), query.image)
        judged = tile_accuracy(query, atlas, _joined(tiles))
    on_all = {RECONSTRUCTION: ours.pop(RECONSTRUCTION), MEAN_IMAGE: baselines.pop(MEAN_IMAGE)}
    on_query = ours | baselines | {name: errors[:, context:] for name, errors in on_all.items()}
    return Evaluation(
        context=context,
        pixels=batch.image[0, 0].numel(),
        on_context={name: Errors(errors[:, 1:context]) for name, errors in on_all.items()},
        on_query={name: Errors(errors) for name, errors in on_query.items()},
        on_walk={} if judged is None else {name: Errors(errors).at(judged.moving) for name, errors in on_query.items()},
        mean_image_of="the held-out contexts" if training_frames is None else "training frames",
        tiles=judged if judged is not None and judged.shows_doors else None,
    )


def make_film(model: WorldModel, batch: Batch, *, context: int, horizon: int, seed: int = 0) -> Film:
    """The episodes of `batch` as frames: truth, and the model's reconstruction followed by its imagination."""
    check_lengths(batch, context, horizon)
    batch = batch.window(0, context + horizon)
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        observed = observe(model, batch, context, generator)
        imagined = imagine(model, observed, batch.action[:, context:])
        frames = model.decode(torch.cat([observed.features[:, :context], imagined], dim=1))
    made = (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Film(batch.image.cpu(), made.cpu(), context)


def _futures(
    model: WorldModel, batch: Batch, other_action: Tensor | None, context: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The model's features for one group: reconstruction (B, C + H, F), the others (B, H, F)."""
    observed = observe(model, batch, context, generator)
    actions = {GENERATION: batch.action} | ({} if other_action is None else {MISLED: other_action})
    imagined = {name: imagine(model, observed, action[:, context:]) for name, action in actions.items()}
    return {RECONSTRUCTION: observed.features} | imagined


def _other_action(action: Tensor, context: int, horizon: int) -> Tensor | None:
    """Actions (N, C + H, A) of the row before; None where no row's differ in the steps that its verdict judges."""
    other = action.roll(1, dims=0)
    judged = slice(context, context + cut(MIDDLE, horizon)[1])
    return None if torch.equal(other[:, judged], action[:, judged]) else other


def _model_errors(model: WorldModel, futures: dict[str, Tensor], image: Tensor, context: int) -> dict[str, Tensor]:
    """Errors of those against image (B, C + H, C, H, W), on the CPU."""
    seen = {RECONSTRUCTION: image}
    return {name: _decoded_error(model, x, seen.get(name, image[:, context:])) for name, x in futures.items()}


def _joined(groups: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([group[name] for group in groups]) for name in groups[0]}


def _decoded_tiles(model: WorldModel, features: Tensor, atlas: Tensor) -> Tensor:
    """Tiles (B, T, h, w) nearest to the decoded features (B, T, F), on the CPU; row by row, no frame is kept."""
    return torch.stack([nearest_tiles(model.decode(row), atlas.to(row.device)).cpu() for row in features])


def _decoded_error(model: WorldModel, features: Tensor, image: Tensor) -> Tensor:
    """`frame_error` of the decoded features (B, T, F) against image: (B, T). Decoded row by row, no frame is kept."""
    rows = [frame_error(model.decode(f[None]), x[None].to(f.device)) for f, x in zip(features, image, strict=True)]
    return torch.cat(rows).cpu()


def _baselines(
    image: Tensor, mean: Tensor, context: int, horizon: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Mean image (N, C + H), other random frame and copy of the last context frame (N, H)."""
    query = image[:, context:]
    return {
        MEAN_IMAGE: frame_error(mean, image),
        OTHER_FRAME: frame_error(other_random_frame(image, horizon, generator), query),
        COPY_LAST: frame_error(copy_last_frame(image, context, horizon), query),
    }
