"""Published systems by name: those of the S4WM paper (Tables 7 and 8), the Clockwork VAE and its video baselines."""

from __future__ import annotations

import dataclasses
from typing import Any

from wmkit.config import rule_of


@dataclasses.dataclass(frozen=True)
class Preset:
    """A published system: what to build, and the optimiser and batches it was trained with."""

    backbone: str
    size: str
    model: dict[str, Any]
    backbone_options: dict[str, Any]
    train: dict[str, Any]
    batch_size: int
    tbtt: int | None = None
    """Window length of truncated backpropagation; None: no state is carried."""
    length: int | None = None
    """Length of windows at random places; None: whole episodes (or `tbtt`)."""

    @property
    def network(self) -> dict[str, Any]:
        """The keys of `model` that make the preset, beside which nothing else may be given for them."""
        return {key: value for key, value in self.model.items() if not rule_of(f"model.{key}").preset}


_S4_TRAIN = {"lr": 1e-3, "weight_decay": 1e-2, "warmup": 1000, "schedule": "cosine", "clip": 1000.0}
_TSSM_TRAIN = {"lr": 1e-4, "weight_decay": 1e-2, "warmup": 0, "schedule": "constant", "clip": 1000.0}
_RSSM_TRAIN = {"lr": 3e-4, "weight_decay": 1e-2, "warmup": 0, "schedule": "constant", "clip": 200.0}


def _presets_of(size: str, tbtt: int) -> dict[str, Preset]:
    factorized = {"posterior": "factorized", "first_step": "condition"}
    full = {"posterior": "full", "first_step": "condition"}
    filtering = {"posterior": "filtering", "first_step": "model"}
    return {
        f"s4wm-{size}": Preset("s4", size, factorized, {}, _S4_TRAIN, 8),
        f"s4wm-full-posterior-{size}": Preset("s4", size, full, {}, _S4_TRAIN, 8),
        f"s4wm-no-mlp-{size}": Preset("s4", size, factorized, {"mlp": False}, _S4_TRAIN, 8),
        f"tssm-xl-{size}": Preset("transformer_xl", size, factorized, {}, _TSSM_TRAIN, 8),
        f"rssm-tbtt-{size}": Preset("gru", size, filtering, {}, _RSSM_TRAIN, 32, tbtt),
    }


CWVAE_2021: tuple[dict[str, Any], dict[str, Any]] = (
    {"image_output": "tanh", "kl_balance": None, "free_bits": 0.0},
    {
        "windows": "smoothing",
        "cascade": True,
        "std_shift": "input",
        "min_std": 1e-4,
        "top_context": True,
        "sharp_start": False,
    },
)
"""What the released CW-VAE is like, in the model's and in the hierarchy's keys: a plain ELBO per frame, pixels that may
go below 0, posteriors that see their whole window."""

CORRECTED: tuple[dict[str, Any], dict[str, Any]] = (
    {"image_output": "stretched_sigmoid", "kl_balance": 0.8},
    {
        "windows": "causal",
        "cascade": False,
        "std_shift": "none",
        "min_std": 0.1,
        "top_context": False,
        "sharp_start": True,
    },
)
"""The same networks without the quirks: pixels bounded on both sides, filtering frame by frame, balanced KL, free bits
if set."""

_SMALL = {"latent_size": 20, "units": 200}
_LARGE = {"latent_size": 100, "units": 800}


def _clockwork(
    variant: tuple[dict[str, Any], dict[str, Any]],
    numbers: dict[str, int],
    image_std: float,
    lr: float,
    *,
    levels: int = 3,
    factor: int = 6,
) -> Preset:
    """A CW-VAE for 64x64 video; its cells are as wide as the hidden layers around them."""
    model, hierarchy = variant
    both = {"depth": 32, "networks": "planet", "latent": "gaussian", "kl_scale": 1.0, "first_step": "model"}
    image = {"image_loss": "gaussian", "image_std": image_std}
    clock = {"levels": levels, "factor": factor, "core": "plain_gru", "width": numbers["units"], "level_units": 1000}
    train = {"lr": lr, "weight_decay": 0.0, "warmup": 0, "schedule": "constant", "clip": 10000.0, "decode_share": 1.0}
    options = {**clock, **hierarchy}
    return Preset("clockwork", "small", {**both, **image, **numbers, **model}, options, train, 50, length=100)


def _video_presets(suffix: str, variant: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Preset]:
    return {
        f"cwvae-mmnist{suffix}": _clockwork(variant, _SMALL, 1.0, 3e-4),
        f"cwvae-mazes{suffix}": _clockwork(variant, _SMALL, 0.1, 3e-4),
        f"cwvae-minerl{suffix}": _clockwork(variant, _LARGE, 0.4, 1e-4),
        f"tald-mmnist{suffix}": _clockwork(variant, _SMALL, 1.0, 5e-4),
        f"rssm-video{suffix}": _clockwork(variant, _SMALL, 1.0, 3e-4, levels=1),
        f"notmpabs{suffix}": _clockwork(variant, _SMALL, 1.0, 3e-4, factor=1),
    }


def _for_minutes() -> Preset:
    """A CW-VAE for 32x32 video that one CPU thread trains within minutes: TALD's claims about levels need no more.

    Half a million parameters, frames at half the deviation, plain ELBO, windows as published; of 32 frames of a clip
    half are decoded at each step. No MLP cascade.
    """
    numbers = {"depth": 8, "latent_size": 20, "units": 96}
    model = {
        "networks": "planet",
        "latent": "gaussian",
        "image_loss": "gaussian",
        "image_std": 0.5,
        "first_step": "model",
    }
    loss = {"image_output": "tanh", "kl_balance": None, "kl_scale": 1.0, "free_bits": 0.0}
    clock = {"levels": 3, "factor": 4, "core": "plain_gru", "width": 96, "level_units": 128}
    hierarchy = CORRECTED[1] | {"windows": "smoothing", "min_std": 1e-4, "sharp_start": False}
    train = {"lr": 1e-3, "weight_decay": 0.0, "warmup": 50, "schedule": "constant", "clip": 1000.0, "decode_share": 0.5}
    return Preset("clockwork", "small", numbers | model | loss, clock | hierarchy, train, 32, length=32)


def _svg_lp(networks: str, latent_size: int, past: int, length: int) -> Preset:
    """SVG-LP for 64x64 video; beta, 1e-4, and lr are those of Moving MNIST (docs/video_models.md#svg-lp)."""
    loss = {"image_loss": "mse", "kl_scale": 1e-4, "kl_balance": None, "free_bits": 0.0, "first_step": "condition"}
    numbers = {"networks": networks, "depth": 64, "code": 128, "hidden": 256, "latent_size": latent_size, "past": past}
    train = {"lr": 2e-3, "weight_decay": 0.0, "warmup": 0, "schedule": "constant", "clip": 1e4, "decode_share": 1.0}
    return Preset("svg_lp", "small", loss, numbers, train, 100, length=length)


def _vta(window: int, length: int, batch_size: int) -> Preset:
    """VTA for video; pixels from -1 to 1 with a deviation of 1 are pixels from 0 to 1 with one of 1/2."""
    image = {"image_loss": "gaussian", "image_std": 0.5}
    loss = image | {"kl_scale": 1.0, "kl_balance": None, "free_bits": 0.0, "first_step": "model"}
    numbers = {"width": 128, "latent_size": 8, "window": window, "longest": 8, "segments": window // 4}
    train = {"lr": 5e-4, "weight_decay": 0.0, "warmup": 0, "schedule": "constant", "clip": 10.0, "decode_share": 1.0}
    return Preset("vta", "small", loss, numbers, train, batch_size, length=length)


PRESETS: dict[str, Preset] = {
    **_presets_of("3d", 48),
    **_presets_of("2d", 50),
    **_video_presets("", CWVAE_2021),
    **_video_presets("-corrected", CORRECTED),
    "cwvae-minutes": _for_minutes(),
    # Stochastic Moving MNIST: 5 frames and 10 to come; sizes of KTH: 10 and 10.
    "svg-lp-dcgan": _svg_lp("dcgan", 10, 5, 15),
    "svg-lp-vgg": _svg_lp("vgg", 24, 10, 20),
    # Windows of 20 steps, the second of which begins as imagination does; of 50 in the clips of the Clockwork VAE.
    "vta-bouncing-balls": _vta(20, 40, 64),
    "vta-video": _vta(50, 100, 50),
    # Whole episodes of small tile worlds, learned by one CPU core within minutes; any backbone fits its numbers.
    "s4wm-minutes": Preset(
        "s4",
        "small",
        {"latent": "categorical", "kl_scale": 1.0},
        {},
        {"lr": 1e-3, "weight_decay": 1e-2, "warmup": 500, "schedule": "constant", "clip": 100.0},
        16,
    ),
}
"""Systems of the S4WM paper (TBTT windows of 48 steps in 3D, 50 in 2D), and of CW-VAE = TALD as released and corrected:
`rssm-video` has one level, `notmpabs` three that tick at every step. `cwvae-minutes` and `s4wm-minutes` are sizes
for a CPU. SVG-LP as its paper trains it on Moving MNIST, and in the sizes of KTH with that beta and lr; VTA as its own,
and in windows of half a clip as a baseline of the Clockwork VAE."""
