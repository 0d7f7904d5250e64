"""How many nats each level takes from the frames: KL(q || p), summed over the ticks of a clip (TALD, Table 1)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from wmkit.batch import Batch
from wmkit.config import RunConfig
from wmkit.evaluation.estimates import Estimate, normal
from wmkit.evaluation.held_out import training_of
from wmkit.evaluation.levels.base import ClipsAnalysis, Findings, Runs, colour_of, option, register_analysis
from wmkit.evaluation.levels.reading import groups_of, hierarchy_of, observe_levels
from wmkit.evaluation.plots.figures import DOTS_PER_INCH
from wmkit.evaluation.rollout import evaluating
from wmkit.evaluation.tables import Table
from wmkit.loading import run_config
from wmkit.world_model import WorldModel

NATS_PER_BIT = math.log(2)
NEAR_ZERO = 0.01
"""Where a logarithmic axis of bits becomes linear, so that a collapsed level still has a place on it."""


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


@register_analysis("kl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class KLAnalysis(ClipsAnalysis):
    """KL per level of runs, in bits and nats."""

    help = "KL per level in bits and nats: what each level takes from the frames."
    several = True

    length: int | None = option(None, "frames of a clip (default: as in training)", least=3)

    def find(self, runs: Runs) -> Findings:
        found = self.kl_of(runs)
        first, most = next(iter(found.values())), max(one.levels for one in found.values())
        rows = []
        for label, one in found.items():
            cells = ["-"] * most
            for level in range(1, one.levels + 1):
                nats = one.nats(level)
                cells[level - 1] = f"{one.bits(level)}\n({nats}; {scaled(nats, 1 / one.length).mean:.3g})"
            rows.append([label, *cells])
        table = Table(
            f"KL per level, {first.length} frames, {len(first.per_clip)} held-out clips",
            ["run", *(f"level {level}" for level in range(1, most + 1))],
            rows,
            "Bits per clip, in brackets nats per clip, nats per frame. ± 1.96 standard errors over clips.",
        )
        return Findings({label: one.to_json() for label, one in found.items()}, draw_kl(found), table)

    def kl_of(self, runs: Runs) -> dict[str, LevelKL]:
        """By label; `ValueError` for clips of different lengths, whose sums do not stand beside each other."""
        lengths = {label: self.length or clip_length(run_config(run)) for label, run in runs.items()}
        if len(set(lengths.values())) > 1:
            each = ", ".join(f"{label}: {count}" for label, count in lengths.items())
            raise ValueError(f"Runs were trained on clips of different lengths ({each} frames): say one with --length")
        found = {}
        for label, length in lengths.items():
            run = self.load(runs[label])
            found[label] = level_kl(run.model, run.clips(self.clips, length), length=length, seed=self.seed)
        return found


def clip_length(config: RunConfig) -> int:
    """Frames of a clip in training."""
    if config.data.sampler != "episodes":
        return config.data.length
    source = training_of(config)(config.data.episode_length)
    return min(source.episode_length(index) for index in range(source.num_episodes or 1))


def draw_kl(found: Mapping[str, LevelKL]) -> Figure:
    """Bits per clip of every level, the unit of TALD's Table 1, one group of bars for each run."""
    figure = Figure(figsize=(2.6 + 1.5 * len(found), 4.0), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    most = max(kl.levels for kl in found.values())
    for level in range(1, most + 1):
        having = [(group, kl) for group, kl in enumerate(found.values()) if level <= kl.levels]
        places = [group + (level - (kl.levels + 1) / 2) * 0.8 / most for group, kl in having]
        heights, halves = [kl.bits(level).mean for _, kl in having], [kl.bits(level).half_width for _, kl in having]
        axes.bar(places, heights, 0.8 / most, yerr=halves, color=colour_of(level), label=f"level {level}", capsize=2)
        for place, height in zip(places, heights, strict=True):
            axes.annotate(f"{height:.3g}", (place, height), (0, 4), textcoords="offset points", ha="center", fontsize=7)
    axes.set_yscale("symlog", linthresh=NEAR_ZERO)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(len(found)), list(found), fontsize=8)
    axes.set_ylabel("KL(q || p), bits per clip")
    first = next(iter(found.values()))
    axes.set_title(
        f"{first.length} frames, mean and 95 % interval over {len(first.per_clip)} held-out clips", fontsize=9
    )
    axes.grid(axis="y", alpha=0.25)
    axes.legend(fontsize=8)
    return figure
