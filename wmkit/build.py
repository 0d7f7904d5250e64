"""`build_world_model`: from a backbone and a size to a world model."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

from wmkit.backbones.base import Backbone, PosteriorName, build_backbone
from wmkit.checks import closest
from wmkit.config import ModelConfig
from wmkit.dynamics import Dynamics, LatentDynamics
from wmkit.dynamics.latents import build_latent
from wmkit.networks import FrameDecoder, FrameEncoder, ImageDecoder, ImageEncoder, PlanetDecoder, PlanetEncoder
from wmkit.presets import PRESETS, Preset
from wmkit.registry import Entry, entry_of, get_entry
from wmkit.world_model import WorldModel

NETWORKS: dict[str, tuple[type[FrameEncoder], type[FrameDecoder]]] = {
    "dreamerv3": (ImageEncoder, ImageDecoder),
    "planet": (PlanetEncoder, PlanetDecoder),
}
"""Encoder and decoder by `ModelConfig.networks`."""

BackboneLike = str | type[Backbone] | Backbone | Any
"""A registered name, a class, an instance, or an instance of a registered config dataclass."""


def build_world_model(
    backbone: BackboneLike | None = None,
    size: str | None = None,
    image_shape: tuple[int, int, int] = (3, 64, 64),
    action_dim: int = 6,
    *,
    preset: str | None = None,
    **overrides: Any,
) -> WorldModel:
    """Build a world model.

    `backbone` (default `s4`): a registered name, a class, an instance, or a config such as `S4Config(layers=2)`. What
    is registered as dynamics (`clockwork`) stands for latents and backbones together.
    `size` (default `small`): `tiny`, `small`, `2d` or `3d`; fixes encoder, latents, heads and, for a backbone given by
    name or class, its numbers. `image_shape`: (C, H, W). `action_dim=0` is action-free video.
    `preset`: a published system such as `s4wm-3d` or `cwvae-mmnist`, instead of `backbone` and `size`.
    `overrides`: fields of `ModelConfig`, e.g. `posterior="full"`, `kl_scale=0.5`.

    Raises `ValueError` for unknown names or options, an unsupported image size, a preset with conflicting arguments.
    """
    if preset is not None:
        chosen = get_preset(preset)
        _refuse_conflicts(preset, chosen, backbone, size, overrides)
        size, overrides = chosen.size, {**chosen.model, **overrides}
        entry = get_entry(chosen.backbone)
        backbone = dataclasses.replace(entry.config.for_size(size), **chosen.backbone_options)
    size = size or "small"
    config = ModelConfig.for_size(size)
    known = sorted(field.name for field in dataclasses.fields(config))
    for name in overrides:
        if name not in known:
            hint = closest(name, known)
            raise ValueError(f"build_world_model: unknown option {name!r}.{hint} Options: {', '.join(known)}.")
    config = dataclasses.replace(config, **overrides)
    make_dynamics = _dynamics_maker("s4" if backbone is None else backbone, size, config)
    if len(image_shape) != 3:
        raise ValueError(f"image_shape: expected (C, H, W), got {image_shape}")
    channels, height, width = (int(n) for n in image_shape)
    if action_dim < 0:
        raise ValueError(f"action_dim: expected 0 (action-free) or more, got {action_dim}")
    frame_encoder, frame_decoder = NETWORKS[config.networks]
    shape = channels, height, width
    encoder = frame_encoder(shape, config.depth)
    dynamics = make_dynamics(embed_dim=encoder.embed_dim, action_dim=action_dim)
    decoder = frame_decoder(dynamics.feature_dim, shape, config.depth, config.image_output)
    return WorldModel(encoder, dynamics, decoder, config)


def get_preset(name: str) -> Preset:
    """The preset called `name`; raises `ValueError` with the list."""
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}.{closest(name, PRESETS)} Presets: {', '.join(sorted(PRESETS))}.")
    return PRESETS[name]


def _dynamics_maker(part: BackboneLike, size: str, config: ModelConfig) -> Callable[..., Dynamics]:
    """What makes the dynamics, given `embed_dim` and `action_dim`.

    Dynamics of their own where `part` is registered as such, else one level over the backbone that it is.
    """
    entry = get_entry(part) if isinstance(part, str) else entry_of(part)
    if entry is not None and entry.kind == "dynamics":
        return functools.partial(_registered_dynamics, entry, part, size, config)
    core = _build_backbone(part, size)
    posterior = config.posterior or core.default_posterior
    # The second backbone is built anew; of an instance there is only a copy, which starts at its weights.
    twin = (copy.deepcopy(core) if core is part else _build_backbone(part, size)) if posterior == "full" else None
    return functools.partial(
        LatentDynamics,
        core,
        build_latent(config),
        posterior=cast(PosteriorName, posterior),  # a plain str in the config, which checks it
        units=config.units,
        posterior_backbone=twin,
    )


def _registered_dynamics(entry: Entry, part: BackboneLike, size: str, config: ModelConfig, **widths: int) -> Dynamics:
    """`cls(config, model, embed_dim=..., action_dim=...)` of dynamics given by name, class or config."""
    if isinstance(part, entry.cls):
        raise ValueError(f"{entry.name!r} is built for its encoder: give its name, class or config, not an instance")
    own = part if isinstance(part, entry.config) else entry.config.for_size(size)
    make: Any = entry.cls
    dynamics = make(own, config, **widths)
    if not isinstance(dynamics, Dynamics):
        raise ValueError(f"{entry.origin} is registered as dynamics: make it a subclass of wmkit.dynamics.Dynamics")
    return dynamics


def _build_backbone(part: BackboneLike, size: str) -> Backbone:
    """A backbone from its name, class, config or instance."""
    if isinstance(part, Backbone):
        return part
    entry = get_entry(part) if isinstance(part, str) else entry_of(part)
    if entry is None:
        if isinstance(part, type) and issubclass(part, Backbone):
            unregistered: Any = part
            return unregistered(ModelConfig.for_size(size).units)
        raise ValueError(
            f"backbone: expected a registered name, a Backbone class or instance, or a registered config, got {part!r}"
        )
    if entry.kind != "backbone":
        raise ValueError(f"{entry.name!r} is a {entry.kind}, not a backbone; it cannot be built by build_world_model")
    config = part if isinstance(part, entry.config) else entry.config.for_size(size)
    return build_backbone(entry, config)


def _refuse_conflicts(
    name: str, preset: Preset, backbone: BackboneLike | None, size: str | None, overrides: dict[str, Any]
) -> None:
    """A preset fixes backbone, size and network: giving others beside it is a mistake, not a wish."""
    given = {"backbone": backbone, "size": size, **overrides}
    fixed = {"backbone": preset.backbone, "size": preset.size, **preset.network}
    for key, value in fixed.items():
        if given.get(key) not in (None, value):
            raise ValueError(
                f"preset {name!r} fixes {key}={value!r}, but {key}={given[key]!r} was given too; drop one of the two"
            )
