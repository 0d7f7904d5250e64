"""The parts of a clockwork hierarchy, built from its config: each level's backbone, latent and layers."""

from __future__ import annotations

import dataclasses

from torch import nn

from wmkit.backbones.base import Backbone
from wmkit.backbones.build import build_backbone
from wmkit.config import ModelConfig
from wmkit.dynamics.clockwork.config import ClockworkConfig
from wmkit.dynamics.clockwork.level import Level
from wmkit.dynamics.latents import CategoricalLatent, GaussianLatent, Latent
from wmkit.registry import get_entry


def build_levels(config: ClockworkConfig, model: ModelConfig, embed_dim: int, action_dim: int) -> list[Level]:
    """Bottom first; built from the top, because each must know the width of the one above."""
    levels: list[Level] = []
    number = len(config.clock.strides)
    for i in reversed(range(number)):
        core, latent = _build_core(config), _build_latent(config, model)
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


def _build_latent(config: ClockworkConfig, model: ModelConfig) -> Latent:
    if model.latent == "gaussian":
        return GaussianLatent(model.latent_size, config.min_std)
    if config.std_shift != "none":
        raise ValueError(f"std_shift={config.std_shift!r} is for Gaussian latents; model.latent is {model.latent!r}")
    return CategoricalLatent(model.groups, model.classes, model.unimix)


def level_mlp(embed_dim: int, units: int, out_dim: int) -> nn.Sequential:
    """Frame embeddings -> what a level sums: two hidden layers."""
    first, second, third = nn.Linear(embed_dim, units), nn.Linear(units, units), nn.Linear(units, out_dim)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
