"""A model led through some episodes: it observes the context, keeps the state, and imagines from there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.tree import State
from wmkit.world_model import WorldModel

FRAMES_AT_ONCE = 3200
"""Frames that a model reads or decodes at a time, as many whole episodes as that is: bounds memory."""


@dataclasses.dataclass(frozen=True)
class Observed:
    """Some episodes as the model has read them, and the fork at the end of the context."""

    features: Tensor
    """(B, C + H, F): posterior features; every frame was seen."""
    state: State
    """State after the context, from which to imagine."""
    noise: Tensor
    """(B, H, noise_dim) for the query: the same for every future imagined from here."""


def observe(model: WorldModel, batch: Batch, context: int, generator: torch.Generator) -> Observed:
    """Read the context in one pass, keep the state, and read on to the end."""
    batch = batch.to(model.device)
    noise = model.draw_noise(*batch.shape, generator)
    before = model.initial_state(batch.shape[0], context)
    seen, state = model.observe(
        batch.image[:, :context], batch.action[:, :context], state=before, noise=noise[:, :context]
    )
    rest, _ = model.observe(
        batch.image[:, context:], batch.action[:, context:], state=state, noise=noise[:, context:], return_state=False
    )
    return Observed(torch.cat([seen.features, rest.features], dim=1), state, noise[:, context:])


def forgotten(
    model: WorldModel, batch: Batch, observed: Observed, context: int, generator: torch.Generator
) -> Observed:
    """As `observed`, but the episode begins at the context's last frame: the fork of a model that saw nothing before.

    Its features are those of that frame alone (B, 1, F).
    """
    last = batch.window(context - 1, context).to(model.device)
    noise = model.draw_noise(*last.shape, generator)
    before = model.initial_state(last.shape[0], 1)
    seen, state = model.observe(last.image, torch.zeros_like(last.action), state=before, noise=noise)
    return Observed(seen.features, state, observed.noise)


def imagine(model: WorldModel, observed: Observed, action: Tensor) -> Tensor:
    """Features (B, H, F) of the future that action (B, H, A) leads to, on prior samples."""
    return model.imagine(action.to(observed.noise.device), observed.state, noise=observed.noise).features


def check_lengths(batch: Batch, context: int, horizon: int) -> None:
    """Raise `ValueError` unless each row is one episode with context + horizon steps."""
    length = batch.shape[1]
    if context < 2 or horizon < 1:
        raise ValueError(f"Expected a context of at least 2 steps and a horizon of at least 1, got {context}|{horizon}")
    if context + horizon > length:
        raise ValueError(
            f"Context {context} + horizon {horizon} = {context + horizon} steps, but the episodes have {length}; "
            "shorten one of the two"
        )
    if bool(batch.is_first[:, 1 : context + horizon].any()) or not bool(batch.mask[:, : context + horizon].all()):
        raise ValueError("A row begins a second episode, or ends, within context + horizon; give whole episodes")


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""
    return batch.map(lambda x: x[rows])


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of all batches."""
    names = [field.name for field in dataclasses.fields(Batch) if field.name not in ("inner_reset", "extras")]
    extras = {key: torch.cat([batch.extras[key] for batch in batches]) for key in batches[0].extras}
    steps = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in names}
    return Batch(**steps, inner_reset=any(batch.inner_reset for batch in batches), extras=extras)


def groups_of_rows(batch: Batch) -> Iterator[slice]:
    """All rows in order, so many at a time that they have at most `FRAMES_AT_ONCE` frames, or one."""
    rows, length = batch.shape
    together = max(1, FRAMES_AT_ONCE // length)
    return (slice(start, start + together) for start in range(0, rows, together))


@contextlib.contextmanager
def in_eval(model: WorldModel) -> Iterator[None]:
    """eval() inside; the model's own mode is restored afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextlib.contextmanager
def evaluating(model: WorldModel) -> Iterator[None]:
    """eval(), inference mode and `model.prepared()` inside; the model's own mode is restored afterwards."""
    with in_eval(model), torch.inference_mode(), model.prepared():
        yield
