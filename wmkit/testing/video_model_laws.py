"""What the laws of video models are tried on, and the two that dynamics do not have."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from wmkit import tree
from wmkit.dynamics.base import Dynamics, Inputs
from wmkit.testing.dynamics_trial import DynamicsTrial, Sequence, Signals
from wmkit.testing.tolerance import disagreement
from wmkit.testing.trial import functional, noise
from wmkit.tree import State
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
        self,
        sequence: Sequence,
        is_first: Tensor | None = None,
        frames: Tensor | None = None,
        inner_reset: bool = True,
        state: State | None = None,
    ) -> Tensor:
        """What the loss compares; without `is_first` an episode begins at column 0 where `state` is None."""
        rows, length = sequence.embed.shape[:2]
        marks = self.first_column(length, state is None, rows) if is_first is None else is_first
        inputs = self.inputs(sequence, marks, inner_reset, self.dynamics)
        seen, _ = self.dynamics.observe(inputs, state, return_state=False)
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


def what_the_loss_compares(trial: VideoTrial) -> Breaches:
    """12. `reconstruct` is (B, T, C, H, W) or of the steps asked for; it sees what `observe` knows, and no more.

    Gradients of it reach the frames, and the parameters that those of `decode` reach. From a fresh state and from a
    carried one.
    """
    for start, state in (("a fresh state", None), ("a carried state", trial.aligned)):
        with torch.no_grad():
            yield from _compares(trial, start, state)
        yield from _trains(trial, start, state)


def _compares(trial: VideoTrial, start: str, state: State | None) -> Breaches:
    """Shapes, and what must not make a difference."""
    allowed, shape = trial.tolerance.features, tuple(of(trial.dynamics).image_shape)
    whole = trial.reconstructed(trial.sequence, state=state)
    wanted = (trial.batch_size, trial.length, *shape)
    if tuple(whole.shape) != wanted:
        yield f"reconstruct from {start}: shape {tuple(whole.shape)}, expected {wanted}"
        return
    promised = trial.reconstructed(trial.sequence, inner_reset=False, state=state)
    yield from disagreement(f"reconstruct from {start} with inner_reset=False", promised, whole, allowed)
    steps = torch.tensor([trial.length - 1, 0, trial.length // 2], device=trial.device)
    for inner_reset in (False, True):
        got = trial.reconstructed(trial.sequence, frames=steps, inner_reset=inner_reset, state=state)
        what = f"reconstruct from {start} of frames {steps.tolist()}, inner_reset={inner_reset}"
        yield from disagreement(what, got, whole[:, steps], allowed)
    for t in trial.boundaries:
        changed = trial.reconstructed(trial.sequence.until(t, trial.other), state=state)
        what = f"reconstruct from {start} before t = {t}, other frames from there"
        yield from disagreement(what, changed[:, :t], whole[:, :t], allowed)
    for row in (0, trial.batch_size - 1):
        rows = torch.tensor([row], device=trial.device)
        alone = trial.reconstructed(trial.sequence.rows(rows), state=None if state is None else tree.index(state, rows))
        yield from disagreement(f"reconstruct from {start} of row {row} alone", alone, whole[row : row + 1], allowed)
    for t in sorted({trial.period, trial.whole - trial.period}):
        is_first = trial.first_column(trial.length, state is None)
        is_first[-1, t] = True
        got = trial.reconstructed(trial.sequence, is_first, state=state)
        fresh = trial.reconstructed(trial.sequence.window(t, trial.length))
        what = f"reconstruct from {start} with a reset of the last row at t = {t}"
        yield from disagreement(f"{what}, from there on", got[-1, t:], fresh[-1], allowed)
        yield from disagreement(f"{what}, in other rows", got[:-1], whole[:-1], allowed)
        yield from disagreement(f"{what}, before", got[-1, :t], whole[-1, :t], allowed)


def _trains(trial: VideoTrial, start: str, state: State | None) -> Breaches:
    """Gradients of what the loss compares are not zero where those of what is decoded are not."""
    model, frames = of(trial.dynamics), trial.sequence.embed.detach().clone().requires_grad_()
    sequence = dataclasses.replace(trial.sequence, embed=frames)
    sources = {"the frames": frames, **{name: p for name, p in model.named_parameters() if p.requires_grad}}

    def reached(image: Tensor) -> set[str]:
        if not image.requires_grad:
            return set()
        found = torch.autograd.grad(functional([image]), list(sources.values()), allow_unused=True)
        return {name for name, x in zip(sources, found, strict=True) if x is not None and bool(x.any())}

    with torch.enable_grad():
        decoded = trial.observe(sequence, state)[0]["image"]
        missed = {"the frames"} | reached(decoded)
        missed -= reached(trial.reconstructed(sequence, state=state))
    yield from (f"no gradient of reconstruct from {start} reaches {name}" for name in sources if name in missed)
