"""What the laws of video models are tried on, and the two that dynamics do not have."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from wmkit.dynamics.base import Dynamics, Inputs
from wmkit.testing.dynamics_trial import DynamicsTrial, Sequence, Signals
from wmkit.testing.tolerance import disagreement
from wmkit.testing.trial import noise
from wmkit.video_models import VideoModel

Breaches = Iterator[str]


class VideoTrial(DynamicsTrial):
    """As of dynamics, on frames whose pixels (B, T, C H W) lie in [0, 1], and with features decoded."""

    def frames(self, seed: int, lead: tuple[int, int]) -> Tensor:
        """Random pixels."""
        return torch.sigmoid(noise(seed, (*lead, math.prod(of(self.dynamics).image_shape))))

    @functools.cached_property
    def by_batch(self) -> bool:
        """Is a batch normalised by its own statistics in train()?"""
        return any(isinstance(module, _BatchNorm) for module in self.dynamics.modules())

    def images(self, sequence: Sequence) -> Tensor:
        """(B, T, C, H, W)."""
        return sequence.embed.reshape(*sequence.embed.shape[:2], *of(self.dynamics).image_shape)

    def inputs(self, sequence: Sequence, is_first: Tensor, inner_reset: bool, dynamics: Dynamics) -> Inputs:
        """With the frames encoded."""
        embed = of(dynamics).encode(self.images(sequence))
        return dataclasses.replace(sequence, embed=embed).inputs(is_first, inner_reset)

    def decoded(self, h: Tensor, z: Tensor, dynamics: Dynamics) -> Signals:
        """The image."""
        return {"image": of(dynamics).decode(torch.cat([h, z], -1))}

    def reconstructed(
        self, sequence: Sequence, is_first: Tensor | None = None, frames: Tensor | None = None, inner_reset: bool = True
    ) -> Tensor:
        """What the loss compares, from a fresh state; an episode begins at column 0 unless `is_first` says where."""
        rows, length = sequence.embed.shape[:2]
        marks = self.first_column(length, batch_size=rows) if is_first is None else is_first
        inputs = self.inputs(sequence, marks, inner_reset, self.dynamics)
        seen, _ = self.dynamics.observe(inputs, None, return_state=False)
        return of(self.dynamics).reconstruct(seen, inputs, frames)


def of(dynamics: Dynamics) -> VideoModel:
    """The dynamics of a `VideoTrial` are one."""
    assert isinstance(dynamics, VideoModel), "looked at before the laws are tried"
    return dynamics


@torch.no_grad()
def frames_by_themselves(trial: VideoTrial) -> Breaches:
    """11. Every frame is encoded and decoded by itself; features hold all that `decode` reads."""
    model, images = of(trial.dynamics), trial.images(trial.sequence)
    lead, shape = images.shape[:2], tuple(model.image_shape)
    allowed = trial.tolerance.features
    embed = model.encode(images)  # (B, T, E)
    inputs = trial.inputs(trial.sequence, trial.first_column(trial.length), False, model)
    features = model.observe(inputs, None)[0].features  # (B, T, F)
    decoded = model.decode(features)
    if tuple(decoded.shape) != (*lead, *shape):
        yield f"decode of features {tuple(features.shape)}: shape {tuple(decoded.shape)}, expected {(*lead, *shape)}"
        return
    if not bool(torch.isfinite(decoded).all()):
        yield "decoded images are not finite"
    pixels = (255 * images).round()
    as_bytes, as_floats = model.encode(pixels.byte()), model.encode(pixels / 255)
    yield from disagreement("encode of uint8, against the same in [0, 1]", as_bytes, as_floats, allowed)
    for row, t in ((0, 0), (trial.batch_size - 1, trial.length // 2), (0, trial.length - 1)):
        here = f"frame (row, t) = {(row, t)}"
        for axes in ((), (1,), (1, 1)):
            alone = f"{here} alone, of shape {(*axes, *shape)}, against the same among others"
            got = model.encode(images[row, t].reshape(*axes, *shape))
            yield from disagreement(f"encode: {alone}", got, embed[row, t].reshape(*axes, -1), allowed)
            got = model.decode(features[row, t].reshape(*axes, -1))
            yield from disagreement(f"decode: {alone}", got, decoded[row, t].reshape(*axes, *shape), allowed)
    _, state = trial.observe(trial.other, None)
    trial.imagine(trial.other, state)
    yield from disagreement("decode after other frames were observed and imagined", model.decode(features), decoded, 0)


@torch.no_grad()
def what_the_loss_compares(trial: VideoTrial) -> Breaches:
    """12. `reconstruct` is (B, T, C, H, W) or of the steps asked for; it sees what `observe` knows, and no more."""
    allowed, shape = trial.tolerance.features, tuple(of(trial.dynamics).image_shape)
    whole = trial.reconstructed(trial.sequence)
    wanted = (trial.batch_size, trial.length, *shape)
    if tuple(whole.shape) != wanted:
        yield f"reconstruct: shape {tuple(whole.shape)}, expected {wanted}"
        return
    promised = trial.reconstructed(trial.sequence, inner_reset=False)
    yield from disagreement("reconstruct with inner_reset=False", promised, whole, allowed)
    steps = torch.tensor([trial.length - 1, 0, trial.length // 2], device=trial.device)
    for inner_reset in (False, True):
        got = trial.reconstructed(trial.sequence, frames=steps, inner_reset=inner_reset)
        what = f"reconstruct of frames {steps.tolist()}, inner_reset={inner_reset}"
        yield from disagreement(what, got, whole[:, steps], allowed)
    for t in trial.boundaries:
        changed = trial.reconstructed(trial.sequence.until(t, trial.other))
        yield from disagreement(
            f"reconstruct before t = {t}, other frames from there", changed[:, :t], whole[:, :t], allowed
        )
    for row in (0, trial.batch_size - 1):
        alone = trial.reconstructed(trial.sequence.rows(torch.tensor([row], device=trial.device)))
        yield from disagreement(f"reconstruct of row {row} alone", alone, whole[row : row + 1], allowed)
    for t in sorted({trial.period, trial.whole - trial.period}):
        is_first = trial.first_column(trial.length)
        is_first[-1, t] = True
        got = trial.reconstructed(trial.sequence, is_first)
        fresh = trial.reconstructed(trial.sequence.window(t, trial.length))
        what = f"reconstruct with a reset of the last row at t = {t}"
        yield from disagreement(f"{what}, from there on", got[-1, t:], fresh[-1], allowed)
        yield from disagreement(f"{what}, before and elsewhere", got[:-1], whole[:-1], allowed)
        yield from disagreement(f"{what}, before", got[-1, :t], whole[-1, :t], allowed)
