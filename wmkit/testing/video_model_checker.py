"""`check_video_model`: the laws of the dynamics contract with images at both ends, and two of video models alone."""

from __future__ import annotations

from collections.abc import Collection

from wmkit.testing import video_model_laws
from wmkit.testing.checker import LawResult, numbers_of_laws
from wmkit.testing.dynamics_checker import TITLED, check_arguments, raise_for, try_laws
from wmkit.testing.video_model_laws import VideoTrial
from wmkit.video_models import VideoModel

OF_VIDEO = (
    ("every frame is encoded and decoded by itself", video_model_laws.frames_by_themselves),
    ("what the loss compares sees no more than observing", video_model_laws.what_the_loss_compares),
)


def check_video_model(
    model: VideoModel,
    *,
    laws: Collection[int] | None = None,
    batch_size: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Raise `ContractViolation` unless a video model keeps the twelve laws written in `wmkit.video_models.VideoModel`.

    model: that of `build_world_model(...).dynamics`, small: frames are decoded some thousand times. It is tried as
    `check_dynamics` tries dynamics, on random images; but in eval() alone where it has BatchNorm, which in train()
    normalises a batch by its own statistics. `laws`, `batch_size`, `seed` and `tolerance` are those of
    `check_dynamics`. Warns with every note: see `LawResult`.

    Raises `ValueError` for something that is no video model, or fewer than two rows.
    """
    results = examine_video_model(model, laws=laws, batch_size=batch_size, seed=seed, tolerance=tolerance)
    raise_for(model, results, contract="video model")


def examine_video_model(
    model: VideoModel,
    *,
    laws: Collection[int] | None = None,
    batch_size: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
) -> list[LawResult]:
    """The twelve laws with what broke in each: `check_video_model` without the exception and the warnings."""
    check_arguments(model, batch_size, VideoModel)
    titled = (*TITLED, *OF_VIDEO)
    wanted = numbers_of_laws(laws, last=len(titled))
    trials = [VideoTrial(model, batch_size, tolerance, seed=seed, training=training) for training in (False, True)]
    if trials[1].by_batch:
        trials.pop()
    return try_laws(titled, wanted, trials, seed)
