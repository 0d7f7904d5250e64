"""What a clockwork hierarchy is made of: its config, and the levels built from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from wmkit.backbones.base import Backbone, build_backbone
from wmkit.checks import check_between, check_choice, check_positive
from wmkit.config import SIZES, ModelConfig
from wmkit.dynamics.clockwork.clock import Clock
from wmkit.dynamics.clockwork.level import Level
from wmkit.dynamics.latents import build_latent
from wmkit.registry import get_entry


@dataclasses.dataclass(kw_only=True)
class ClockworkConfig:
    """Numbers and variants of a `ClockworkDynamics`; latents and the cells' hidden layers follow the model's config.

    The switches from `windows` to `sharp_start` start as in the corrected model; the presets of CW-VAE set all of them,
    and what belongs to them in the model's config (docs/clockwork.md#as-released-and-corrected).
    """

    levels: int = 3
    """L: levels of latents, the fastest at the bottom."""
    factor: int = 6
    """k: each level ticks k times as slowly as the one below."""
    strides: list[int] | None = None
    """Steps between the ticks of each level, bottom first, instead of `levels` and `factor`: [1, 2, 12]."""
    core: Any = "plain_gru"
    """The backbone of every level: a registered name, or a mapping such as {name: s4, layers: 2}."""
    core_size: str = "small"
    """The size whose numbers the core has."""
    width: int | None = None
    """Input width of the core; None: as its size says."""
    level_units: int = 1000
    """Width of the two hidden layers of the MLPs that embed frames for the levels above the first."""
    windows: str = "causal"
    """`causal`, or `smoothing` (CW-VAE)."""
    cascade: bool = False
    """Each level's MLP reads the output of the one below (CW-VAE's code); else all read the CNN's (its text)."""
    std_shift: str = "none"
    """Where 0.54 is added to Gaussian deviations: at the layer's `input` (CW-VAE), its `output`, or `none`."""
    min_std: float = 0.1
    """Smallest standard deviation of a Gaussian latent (CW-VAE: 1e-4)."""
    top_context: bool = False
    """Give the top level weights for a context of zeros (CW-VAE: they do nothing, but they are in its totals)."""
    sharp_start: bool = True
    """Start posteriors with little noise, as everywhere in wmkit (CW-VAE: as Glorot's weights fall)."""
    actions_above: bool = False
    """Let levels above the first see the sum of the actions since their last tick."""

    def __post_init__(self) -> None:
        check_choice("ClockworkConfig.windows", self.windows, ("causal", "smoothing"))
        check_choice("ClockworkConfig.std_shift", self.std_shift, ("input", "output", "none"))
        check_choice("ClockworkConfig.core_size", self.core_size, SIZES)
        check_positive("ClockworkConfig.min_std", self.min_std)
        check_between("ClockworkConfig.level_units", self.level_units, 1)
        if self.width is not None:
            check_between("ClockworkConfig.width", self.width, 1)
        name = self.core.get("name") if isinstance(self.core, Mapping) else self.core
        if not isinstance(name, str):
            raise ValueError(
                "ClockworkConfig.core: expected a backbone's name, or a mapping with one such as "
                f"{{name: s4, layers: 2}}, got {self.core!r}"
            )
        if self.strides is not None and self.levels not in (type(self).levels, len(self.strides)):
            raise ValueError(
                f"ClockworkConfig: levels={self.levels}, but strides={list(self.strides)} are those of "
                f"{len(self.strides)} levels; drop one of the two"
            )
        _ = self.clock  # raises for strides that make no clock

    @property
    def clock(self) -> Clock:
        """When each level ticks."""
        if self.strides is not None:
            return Clock(tuple(self.strides))
        return Clock.regular(self.levels, self.factor)

    @classmethod
    def for_size(cls, size: str) -> Self:
        """Three levels; `2d` and `3d` have CW-VAE's factor 6 and its MLPs."""
        sizes: dict[str, dict[str, Any]] = {
            "tiny": {"factor": 2, "level_units": 32},
            "small": {"factor": 4, "level_units": 256},
            "2d": {},
            "3d": {},
        }
        return cls(core_size=size, **sizes[size])


def build_levels(config: ClockworkConfig, model: ModelConfig, embed_dim: int, action_dim: int) -> list[Level]:
    """Bottom first; built from the top, because each must know the width of the one above."""
    if config.std_shift != "none" and model.latent != "gaussian":
        raise ValueError(f"std_shift={config.std_shift!r} is for Gaussian latents; model.latent is {model.latent!r}")
    levels: list[Level] = []
    number = len(config.clock.strides)
    for i in reversed(range(number)):
        core, latent = _build_core(config), build_latent(model, config.min_std)
        own = core.feature_dim + latent.sample_dim
        level = Level(
            core,
            latent,
            context_dim=own if i < number - 1 or config.top_context else 0,
            action_dim=action_dim if i == 0 or config.actions_above else 0,
            embed_dim=embed_dim,
            units=model.units,
            std_shift=config.std_shift,
        )
        levels.insert(0, level)
    return levels


def _build_core(config: ClockworkConfig) -> Backbone:
    """A level's backbone; raises `ValueError` for a name or an option that there is not."""
    options = {"name": config.core} if isinstance(config.core, str) else dict(config.core)
    if config.width is not None:
        options["input_dim"] = config.width
    entry = get_entry(options.pop("name"))
    if entry.kind != "backbone":
        raise ValueError(f"core: {entry.name!r} is a {entry.kind}; the levels of a clockwork have a backbone")
    try:
        numbers = dataclasses.replace(entry.config.for_size(config.core_size), **options)
    except TypeError as error:
        raise ValueError(f"core: {entry.config.__name__} does not take {options}: {error}") from error
    return build_backbone(entry, numbers)
