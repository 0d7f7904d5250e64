"""`build_world_model`: from a backbone and a size to a world model."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any, cast, get_args

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from wmkit.backbones.base import Backbone, PosteriorName, build_backbone
from wmkit.checks import check_choice, check_integer, closest
from wmkit.config import NOT_OF_VIDEO, ModelConfig, why_not_of_video
from wmkit.dynamics import Dynamics, LatentDynamics
from wmkit.dynamics.latents import build_latent
from wmkit.networks import FrameDecoder, FrameEncoder, ImageDecoder, ImageEncoder, PlanetDecoder, PlanetEncoder
from wmkit.presets import PRESETS, Preset
from wmkit.registry import Entry, all_entries, entry_of, entry_of_parent, get_entry
from wmkit.video_models import VideoModel
from wmkit.world_model import WorldModel

NETWORKS: dict[str, tuple[type[FrameEncoder], type[FrameDecoder]]] = {
    "dreamerv3": (ImageEncoder, ImageDecoder),
    "planet": (PlanetEncoder, PlanetDecoder),
}
"""Encoder and decoder by `ModelConfig.networks`."""

_owners: weakref.WeakKeyDictionary[Backbone, weakref.ref[WorldModel]] = weakref.WeakKeyDictionary()
"""The world model that each backbone was built into, so that no two models share weights unseen."""

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
    is registered as dynamics (`clockwork`) stands for latents and backbones together, as a video model (`svg_lp`) for
    the networks too.
    `size` (default `small`): `tiny`, `small`, `2d` or `3d`; fixes encoder, latents, heads and, for a backbone given by
    name or class, its numbers. `image_shape`: (C, H, W). `action_dim=0` is action-free video.
    `preset`: a published system such as `s4wm-3d` or `cwvae-mmnist`, instead of `backbone` and `size`.
    `overrides`: fields of `ModelConfig`, e.g. `posterior="full"`, `kl_scale=0.5`.

    An instance is used as it is, with its weights, by one model only: give copies to others. For `posterior="full"` a
    second backbone is built like the first, with weights of its own.

    Raises `ValueError` for unknown names or options, an unsupported image size, a preset with conflicting arguments,
    and an instance that cannot be part of this model; each says what was expected, what came, and what to do.
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
    shape = _image_shape(image_shape)
    action_dim = check_integer("action_dim (0: action-free)", action_dim, 0)
    part: BackboneLike = "s4" if backbone is None else backbone
    named = _entry_named(part) if isinstance(part, str) else entry_of(part)
    dynamics: Dynamics
    if named is not None and named.kind == "video_model":
        dynamics = _registered_video_model(named, part, size, config, shape, action_dim)
        model = WorldModel(None, dynamics, None, config)
    else:
        make_dynamics = _dynamics_maker(part, size, config)
        frame_encoder, frame_decoder = NETWORKS[config.networks]
        encoder = frame_encoder(shape, config.depth)
        dynamics = make_dynamics(embed_dim=encoder.embed_dim, action_dim=action_dim)
        decoder = frame_decoder(dynamics.feature_dim, shape, config.depth, config.image_output)
        model = WorldModel(encoder, dynamics, decoder, config)
    own = _config_of(part, size)
    model.built_as = None if own is None else (copy.deepcopy(own), size)
    for module in dynamics.modules():
        if isinstance(module, Backbone):
            _owners[module] = weakref.ref(model)
    return model


def get_preset(name: str) -> Preset:
    """The preset called `name`; raises `ValueError` with the list."""
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}.{closest(name, PRESETS)} Presets: {', '.join(sorted(PRESETS))}.")
    return PRESETS[name]


def _config_of(part: BackboneLike, size: str) -> Any:
    """The registered config from which `part` is built; None for a class without a name and an unknown instance."""
    entry = _entry_named(part) if isinstance(part, str) else entry_of(part)
    if entry is None:
        return None
    if isinstance(part, entry.cls):
        return config if isinstance(config := getattr(part, "config", None), entry.config) else None
    return part if isinstance(part, entry.config) else entry.config.for_size(size)


def _dynamics_maker(part: BackboneLike, size: str, config: ModelConfig) -> Callable[..., Dynamics]:
    """What makes the dynamics, given `embed_dim` and `action_dim`.

    Dynamics of their own where `part` is registered as such, else one level over the backbone that it is.
    """
    entry = _entry_named(part) if isinstance(part, str) else entry_of(part)
    if entry is not None and entry.kind == "dynamics":
        return functools.partial(_registered_dynamics, entry, part, size, config)
    core = _build_backbone(part, size)
    check_choice(f"{type(core).__name__}.default_posterior", core.default_posterior, get_args(PosteriorName))
    posterior = config.posterior or core.default_posterior
    twin = None
    if posterior == "full":
        twin = _second_of(core) if core is part else _build_backbone(part, size)
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


def _registered_video_model(
    entry: Entry, part: BackboneLike, size: str, config: ModelConfig, image_shape: tuple[int, int, int], action_dim: int
) -> VideoModel:
    """`cls(config, image_shape=..., action_dim=...)` of a video model given by name, class or config.

    Raises `ValueError` for keys of the model's config that it would not read, other than at its size, and for a loss
    of first frames that it does not predict.
    """
    if isinstance(part, entry.cls):
        raise ValueError(f"{entry.name!r} is built for its images: give its name, class or config, not an instance")
    usual = ModelConfig.for_size(size)
    for key in NOT_OF_VIDEO:
        if (given := getattr(config, key)) != getattr(usual, key):
            raise ValueError(f"{key}={given!r}: {why_not_of_video(entry.name, key)}")
    own = part if isinstance(part, entry.config) else entry.config.for_size(size)
    make: Any = entry.cls
    video = make(own, image_shape=image_shape, action_dim=action_dim)
    if not isinstance(video, VideoModel):
        raise ValueError(
            f"{entry.origin} is registered as a video model: make it a subclass of wmkit.video_models.VideoModel"
        )
    if config.first_step == "model" and not video.foretells_first:
        raise ValueError(
            f"model.first_step=model: {entry.name} reads an episode's first frame and does not predict it, so that "
            "its loss would be that of copying; take first_step=condition"
        )
    return video


def _build_backbone(part: BackboneLike, size: str) -> Backbone:
    """A backbone from its name, class, config or instance."""
    if isinstance(part, Backbone):
        return _checked_instance(part)
    entry = _entry_named(part) if isinstance(part, str) else entry_of(part)
    if entry is None:
        if isinstance(part, type) and issubclass(part, Backbone):
            return _build_unregistered(part, size)
        cls = part if isinstance(part, type) else type(part)
        name = cls.__name__
        if issubclass(cls, Dynamics):
            raise ValueError(not_registered(name, cls))
        if issubclass(cls, nn.Module):
            raise ValueError(
                f"backbone: {name} is a torch.nn.Module but no backbone; subclass wmkit.Backbone (docs/backbones.md)"
            )
        raise ValueError(
            f"backbone: expected a registered name, a Backbone class or instance, or a registered config, got {part!r}"
        )
    if entry.kind != "backbone":
        raise ValueError(f"{entry.name!r} is a {entry.kind}, not a backbone; it cannot be built by build_world_model")
    config = part if isinstance(part, entry.config) else entry.config.for_size(size)
    return build_backbone(entry, config)


def not_registered(name: str, cls: type[Dynamics]) -> str:
    """What to say of dynamics, or a video model, that no one has registered."""
    kind = "video_model" if issubclass(cls, VideoModel) else "dynamics"
    return f'{name} is not registered: @register_backbone(..., kind="{kind}") says how to build it'


def _build_unregistered(cls: type[Backbone], size: str) -> Backbone:
    """A backbone of a class without a name: with the size's numbers of the registered class it extends, if it does."""
    parent = entry_of_parent(cls)
    if parent is None:
        return _instantiate(cls, ModelConfig.for_size(size).units, None)
    config = parent.config.for_size(size)
    return _instantiate(cls, config.input_dim, config)


def _instantiate(cls: type[Backbone], input_dim: int, config: Any) -> Backbone:
    """`cls(input_dim, config)`, or `cls(input_dim)` without a config or where the class takes none."""
    make: Any = cls
    if config is not None:
        try:
            inspect.signature(cls).bind(input_dim, config)
        except TypeError:
            config = None
    return cast(Backbone, make(input_dim) if config is None else make(input_dim, config))


def _checked_instance(core: Backbone) -> Backbone:
    """An instance that a model can take; raises `ValueError` for another model's, a lazy one, another precision."""
    name = type(core).__name__
    owner = _owners.get(core)
    if owner is not None and owner() is not None:
        raise ValueError(
            f"backbone: this {name} is part of another world model, and the two would share its weights; give "
            "copy.deepcopy(backbone), or its name, class or config"
        )
    for path, parameter in core.named_parameters():
        if is_lazy(parameter):
            raise ValueError(
                f"backbone: {name}.{path} is lazy, it has no shape yet; call the module once, or take layers that know "
                "their sizes"
            )
    dtypes = {p.dtype for p in core.parameters() if p.is_floating_point()}
    default = torch.get_default_dtype()
    if dtypes and default not in dtypes:
        found = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(
            f"backbone: the weights of this {name} are {found}, those of the model will be {default}; give it in "
            f"{default} and convert the whole model afterwards"
        )
    return core


def _second_of(core: Backbone) -> Backbone:
    """A backbone like an instance, with weights of its own: built anew from its config, else a copy that is reset.

    Warns of parameters that nobody can draw anew, and raises `ValueError` for an instance that cannot be copied.
    """
    name, entry = type(core).__name__, entry_of_parent(type(core))
    config = getattr(core, "config", None)
    if entry is not None and isinstance(config, entry.config):
        return _instantiate(type(core), core.input_dim, config).to(next(core.parameters()).device)
    try:
        second = copy.deepcopy(core)
    except Exception as error:  # deepcopy runs the module's own code
        raise ValueError(
            f"posterior='full' needs a second backbone, and this {name} cannot be copied ({error}); give its class or "
            "config, or take torch.nn.utils.parametrizations instead of old hooks such as torch.nn.utils.weight_norm"
        ) from error
    for module in second.modules():
        reset: Any = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    pairs = zip(core.named_parameters(), second.parameters(), strict=True)
    # A parameter with one value in all its entries has it by rule, not by chance.
    equal = [path for (path, p), q in pairs if torch.equal(p, q) and bool((p != p.flatten()[:1]).any())]
    if equal:
        warnings.warn(
            f"posterior='full': the second {name} starts with the first one's {', '.join(equal[:5])}"
            f"{', ...' if len(equal) > 5 else ''}; give the class, or write {name}.reset_parameters()",
            stacklevel=4,
        )
    return second


def _entry_named(name: str) -> Entry:
    """The entry of a name; a preset's is refused with the argument to take."""
    if name in PRESETS and name not in all_entries():
        raise ValueError(f"{name!r} is a preset, not a backbone: write preset={name!r} instead of backbone={name!r}")
    return get_entry(name)


def _image_shape(given: Any) -> tuple[int, int, int]:
    """`given` as (C, H, W); raises `ValueError` for what are no three whole numbers from 1 on."""
    if isinstance(given, str) or not isinstance(given, Iterable) or len(numbers := list(given)) != 3:
        raise ValueError(f"image_shape: expected three numbers (C, H, W) such as (3, 64, 64), got {given!r}")
    channels, height, width = (
        check_integer(f"image_shape (C, H, W) = {given}: {name}", n, 1) for name, n in zip("CHW", numbers, strict=True)
    )
    if width <= 4 < min(channels, height):
        raise ValueError(
            f"image_shape: expected (C, H, W), yours looks like HWC: {given}; give {(width, channels, height)}, and "
            "images with the channels first"
        )
    return channels, height, width


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
