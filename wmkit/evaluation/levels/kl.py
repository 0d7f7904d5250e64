"""How many nats each level takes from the frames: KL(q || p), summed over the ticks of a clip (TALD, Table 1)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.intervals import Estimate, normal
from wmkit.evaluation.levels.reading import groups_of, hierarchy_of, observe_levels
from wmkit.evaluation.rollout import evaluating
from wmkit.world_model import WorldModel

NATS_PER_BIT = math.log(2)


@dataclasses.dataclass(frozen=True)
class LevelKL:
    """KL of every level on N clips of equal length."""

    per_clip: Tensor
    """(N, L) nats, summed over the ticks of each clip, the bottom level first."""
    length: int
    """Frames of a clip."""
    strides: tuple[int, ...]
    """Frames between the ticks of each level."""

    @property
    def levels(self) -> int:
        """The number of levels, L."""
        return self.per_clip.shape[1]

    def nats(self, level: int) -> Estimate:
        """Nats per clip of a level, counted from 1; interval over clips."""
        return normal(self.per_clip[:, level - 1].double().numpy())

    def bits(self, level: int) -> Estimate:
        """The same in bits, the unit of TALD's Table 1."""
        return scaled(self.nats(level), 1 / NATS_PER_BIT)

    def to_json(self) -> dict[str, Any]:
        """Per clip and per frame, in nats and bits."""
        entries = []
        for level in range(1, self.levels + 1):
            nats, bits = self.nats(level), self.bits(level)
            units = {"nats": nats, "bits": bits}
            per_frame = {f"{unit}_per_frame": scaled(value, 1 / self.length) for unit, value in units.items()}
            rows = {name: dataclasses.asdict(value) for name, value in (units | per_frame).items()}
            entries.append({"level": level, "stride": self.strides[level - 1], **rows})
        return {"clips": len(self.per_clip), "frames": self.length, "levels": entries}


def level_kl(model: WorldModel, batch: Batch, *, length: int, seed: int = 0) -> LevelKL:
    """KL(q || p) of each level on the first `length` frames of clips, read as in training, from their first frame.

    The plain KL of the evidence lower bound, whatever balance and free bits the model was trained with; one posterior
    sample a clip, drawn from `seed`. Raises `ValueError` for a model without levels and for too short clips.
    """
    dynamics, generator = hierarchy_of(model), torch.Generator().manual_seed(seed)
    found = []
    with evaluating(model):
        for group in groups_of(batch, model, length):
            seen, _ = observe_levels(model, group, model.draw_noise(*group.shape, generator))
            kl = dynamics.kl(seen, balance=None, free_bits=0.0)
            found.append(torch.stack([term.double().sum(1) for term in kl.values()], dim=1).cpu())
    return LevelKL(torch.cat(found), length, dynamics.clock.strides)


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate in another unit."""
    return Estimate(estimate.mean * factor, estimate.low * factor, estimate.high * factor, estimate.episodes)
