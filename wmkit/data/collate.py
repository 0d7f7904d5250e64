"""From pieces of episodes to a `Batch`, and the gate a batch passes before training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.data.episode import STEP_KEYS, Array, Episode


@dataclasses.dataclass(frozen=True)
class Piece:
    """Steps start..stop-1 of one episode: one row of a batch."""

    episode: int
    start: int
    stop: int
    fresh: bool
    """Read it as an episode of its own: `is_first` at its first step, and no action led there."""


def collate(pieces: Sequence[Piece], episodes: Sequence[Episode], length: int, keys: Sequence[str]) -> Batch:
    """Rows `episodes[b][pieces[b]]`, padded on the right with zeros to `length`; `keys` become `Batch.extras`."""
    steps = {key: _stack(key, pieces, episodes, length) for key in STEP_KEYS}
    mask = np.arange(length)[None] < np.array([piece.stop - piece.start for piece in pieces])[:, None]
    fresh = np.array([piece.fresh for piece in pieces])
    steps["is_first"][fresh, 0] = True
    steps["action"][fresh, 0] = 0
    return Batch(
        # frames stay (H, W, C) in memory: what a channels_last convolution wants
        image=torch.from_numpy(steps.pop("image")).permute(0, 1, 4, 2, 3),
        mask=torch.from_numpy(mask),
        inner_reset=bool(steps["is_first"][:, 1:].any()),
        extras={key: _extra(key, pieces, episodes, length) for key in keys},
        **{key: torch.from_numpy(value) for key, value in steps.items()},
    )


def _stack(key: str, pieces: Sequence[Piece], episodes: Sequence[Episode], length: int) -> Array:
    """(B, length, ...), one row per piece."""
    first = episodes[0].steps[key]
    out = np.empty((len(pieces), length, *first.shape[1:]), first.dtype)
    for row, piece, episode in zip(out, pieces, episodes, strict=True):
        count = piece.stop - piece.start
        row[:count] = episode.steps[key][piece.start : piece.stop]
        row[count:] = 0
    return out


def _extra(key: str, pieces: Sequence[Piece], episodes: Sequence[Episode], length: int) -> Tensor:
    """Ground truth (B, length, ...); what an episode holds once is repeated along time without a copy."""
    if key not in episodes[0]:
        raise ValueError(f"keys: no {key!r} in these episodes; they hold {sorted(episodes[0])}")
    if key in episodes[0].steps:
        return torch.from_numpy(_stack(key, pieces, episodes, length))
    constant = torch.from_numpy(np.stack([episode.constants[key] for episode in episodes]))
    return constant[:, None].expand(-1, length, *constant.shape[1:])


def check_batch(batch: Batch) -> None:
    """Refuse a batch that would poison training.

    Raises `ValueError` for a wrong dtype and for NaN or infinity, naming the key, the row and the time step. Reads
    tensor values: call it before the batch goes to a device.
    """
    expected = {"image": torch.uint8, "action": torch.float32, "reward": torch.float32}
    expected |= dict.fromkeys(("is_first", "is_terminal", "mask"), torch.bool)
    for key, dtype in expected.items():
        if getattr(batch, key).dtype != dtype:
            raise ValueError(f"Batch.{key}: expected {dtype}, got {getattr(batch, key).dtype}")
    for key, value in {"action": batch.action, "reward": batch.reward, **batch.extras}.items():
        bad = ~torch.isfinite(value)
        if bad.any():
            index = tuple(int(i) for i in bad.nonzero()[0])
            raise ValueError(
                f"Batch: {key} is {value[index].item()} in row {index[0]} at t = {index[1]} (index {index}); "
                "expected finite numbers. Find and drop the episode it came from."
            )
