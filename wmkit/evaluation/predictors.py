"""The predictors that evaluations compare: the model in several ways, and baselines, whose frames are made here.

Each has one name, label and line. Baselines know nothing of dynamics: they are what a model has to beat on the same
frames. A squared error alone says little: mazes that differ in every wall can differ by a few per cent of their pixels.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from wmkit.batch import Batch

Dash = str | tuple[int, tuple[float, ...]]
"""A line style of matplotlib."""

OBSERVED = "observed"
"""The model's posterior: it sees every frame, those of the query too."""
IMAGINED = "imagined"
"""The model sees the context, then only the actions."""
SHUFFLED_ACTIONS = "shuffled_actions"
"""As `imagined`, but row i imagines with the actions of row i - 1."""
NO_MEMORY = "no_memory"
"""As `imagined`, but the context is its last frame alone: what the model knows without having been there."""
ACTIONS = "actions"
"""The model sees the first frame, then only the actions."""
UNTRAINED = "untrained"
"""As `observed`, but the model has its initial weights."""
ORACLE = "oracle"
"""As `observed`, but the model was trained on with the gradient of the probe."""
CONTROL = "control"
"""As `observed`, but asked for a fixed random function of the frame in view."""
BEST_OF_N = "best_of_n"
"""Of several imagined futures the best one, chosen per episode and measure by the mean over the query."""
COPY_LAST = "copy_last"
MEAN_IMAGE = "mean_image"
RANDOM_FRAME = "random_frame"
BLACK = "black"
OTHER_CLIP = "other_clip"
TRUE_FRAMES = "true_frames"
"""What happened, judged like a prediction: the ceiling of a measure that reads frames."""
TRAINING_CLIPS = "training_clips"
"""As many true clips of the training split, for measures of sets: how far apart true ones lie."""
INITIAL_MAP = "initial_map"
"""The view of a walker on the true trajectory who knows the map as it was at first, but not that anything changes."""
FROZEN = "frozen"
"""The true view, but with everything that moves by itself where the context saw it last."""
MAJORITY = "majority"
"""The answer that is right most often in these very episodes."""
CONSTANT = "constant"


@dataclasses.dataclass(frozen=True)
class Predictor:
    """How a predictor appears in every table and picture."""

    name: str
    label: str
    colour: str
    """For matplotlib."""
    dash: Dash = "-"
    kind: Literal["model", "baseline", "ceiling"] = "baseline"
    """What it depends on: the model in question, nothing but the data, the truth itself."""


_GREY = "0.4"
PREDICTORS = {
    predictor.name: predictor
    for predictor in (
        Predictor(OBSERVED, "observed", "tab:blue", kind="model"),
        Predictor(ORACLE, "oracle", "tab:green", "-.", kind="model"),
        Predictor(IMAGINED, "imagined", "tab:orange", kind="model"),
        Predictor(SHUFFLED_ACTIONS, "shuffled actions", "tab:red", kind="model"),
        Predictor(ACTIONS, "first frame and actions", "tab:red", "--", kind="model"),
        Predictor(NO_MEMORY, "no memory", "tab:pink", kind="model"),
        Predictor(UNTRAINED, "untrained", "tab:cyan", "--", kind="model"),
        Predictor(CONTROL, "control task", "tab:olive", ":", kind="model"),
        Predictor(BEST_OF_N, "best of N", "tab:purple", kind="model"),
        Predictor(MEAN_IMAGE, "mean image", _GREY, "--"),
        Predictor(RANDOM_FRAME, "random frame", _GREY, ":"),
        Predictor(COPY_LAST, "last context frame", _GREY, "-."),
        Predictor(BLACK, "black frame", "0.1", (0, (5, 1))),
        Predictor(OTHER_CLIP, "another clip", _GREY, (0, (1, 3))),
        Predictor(INITIAL_MAP, "initial map", "tab:green", "--"),
        Predictor(FROZEN, "frozen when last seen", "tab:olive", "--"),
        Predictor(MAJORITY, "majority", "tab:brown", ":"),
        Predictor(CONSTANT, "constant", "tab:brown", "--"),
        Predictor(TRUE_FRAMES, "true frames", "tab:green", (0, (1, 1)), "ceiling"),
        Predictor(TRAINING_CLIPS, "training clips", "tab:green", (0, (3, 1)), "ceiling"),
    )
}
"""In the order of tables and legends."""


def predictor(name: str) -> Predictor:
    """The predictor called `name`; one that the table does not know gets a line that depends on its name alone."""
    if name in PREDICTORS:
        return PREDICTORS[name]
    number = zlib.crc32(name.encode())
    colours = ("tab:cyan", "tab:olive", "tab:pink", "tab:gray")
    dashes: tuple[Dash, ...] = ((0, (4, 2)), (0, (3, 1, 1, 1)), (0, (6, 2, 1, 2)))
    return Predictor(name, name.replace("_", " "), colours[number % 4], dashes[number // 4 % 3])


def in_order(names: set[str]) -> list[str]:
    """Those of the table in its order, then the others by name."""
    return [name for name in PREDICTORS if name in names] + sorted(names - PREDICTORS.keys())


@dataclasses.dataclass(frozen=True)
class Clips:
    """The held-out episodes that baselines see."""

    batch: Batch
    """(N, C + H), with the ground truth that measures asked for."""
    context: int
    mean: Tensor
    """(C, H, W) float32: the mean image."""
    generator: torch.Generator
    """On the CPU; the model draws its latents from it afterwards."""

    @property
    def image(self) -> Tensor:
        """(N, C + H, C, H, W) uint8."""
        return self.batch.image


Frames = Callable[[int], Tensor]
"""Frames of one row: (H, C, H, W) of the query, or (C + H, C, H, W); uint8, or float in [0, 1]."""
Baseline = Callable[[Clips], Frames | None]
"""Makes the frames; None where the episodes do not have what it takes."""
_baselines: dict[str, Baseline] = {}


def register_baseline(name: str) -> Callable[[Baseline], Baseline]:
    """Decorator: a predictor of frames that measures may name among theirs. `ValueError` for a name that is taken."""

    def register(function: Baseline) -> Baseline:
        if name in _baselines:
            raise ValueError(f"Baseline {name!r} is already registered by {_baselines[name].__module__}")
        _baselines[name] = function
        return function

    return register


def make_baselines(clips: Clips) -> Mapping[str, Frames]:
    """All that the episodes have what it takes for; what is random is drawn here, the frames are made row by row."""
    made = {name: make(clips) for name, make in _baselines.items()}
    return {name: frames for name, frames in made.items() if frames is not None}


def mean_image(image: Tensor) -> Tensor:
    """The mean over all frames of image (B, T, C, H, W) uint8 -> (C, H, W) float32 in [0, 1]: the best constant."""
    rows = [row.float().mean(dim=0) for row in image]
    return torch.stack(rows).mean(dim=0) / 255


@register_baseline(MEAN_IMAGE)
def mean_frames(clips: Clips) -> Frames:
    """The mean image at every step of context and query."""
    return lambda row: clips.mean.expand_as(clips.image[row])


@register_baseline(RANDOM_FRAME)
def random_frames(clips: Clips) -> Frames:
    """For each row and query step a frame of another row at a uniformly random time.

    It has the statistics of a frame and nothing of this episode: a model whose error is no lower has forgotten where it
    is. Raises `ValueError` for a single row.
    """
    rows, length = clips.batch.shape
    horizon = length - clips.context
    if rows < 2:
        raise ValueError(f"Baselines show an episode the frames of another: expected at least 2 episodes, got {rows}")
    shift = torch.randint(1, rows, (rows, horizon), generator=clips.generator)
    other = (torch.arange(rows)[:, None] + shift) % rows  # (N, H)
    time = torch.randint(length, (rows, horizon), generator=clips.generator)
    return lambda row: clips.image[other[row], time[row]]


@register_baseline(COPY_LAST)
def copied_frames(clips: Clips) -> Frames:
    """The last context frame, held for the whole query."""
    at = clips.context - 1
    return lambda row: clips.image[row, at : at + 1].expand_as(clips.image[row, clips.context :])


@register_baseline(BLACK)
def black_frames(clips: Clips) -> Frames:
    """Zeros: on black ground hard to beat, for a digit drawn at the wrong place costs twice."""
    return lambda row: torch.zeros_like(clips.image[row, clips.context :])


@register_baseline(OTHER_CLIP)
def other_clip(clips: Clips) -> Frames:
    """The query of the row before: a true video, of something else."""
    return lambda row: clips.image[row - 1, clips.context :]


@register_baseline(TRUE_FRAMES)
def true_frames(clips: Clips) -> Frames:
    """The query as it happened."""
    return lambda row: clips.image[row, clips.context :]
