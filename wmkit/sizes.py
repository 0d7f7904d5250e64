"""Model sizes and model options: the numbers of the papers, by name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Self

SIZES = ("tiny", "small", "2d", "3d")
"""`tiny` for tests, `small` for a CPU, `2d` and `3d` as in S4WM's Tables 7 and 8."""


@dataclasses.dataclass(kw_only=True)
class ModelConfig:
    """Everything about a world model that is not its backbone."""

    depth: int = 48
    """Channels of the encoder's first stage; doubled at each stage (S4WM: 48 in 3D, 32 in 2D)."""
    units: int = 1000
    """Width of every head's hidden layer (S4WM: 1000 in 3D, 512 in 2D)."""
    latent: str = "categorical"
    """`categorical` (groups x classes; S4WM) or `gaussian` (latent_size numbers; sharp sooner, so `small` has it)."""
    groups: int = 32
    """Categorical variables per step."""
    classes: int = 32
    """Classes of each."""
    latent_size: int = 32
    """Numbers per step of a Gaussian latent."""
    posterior: str | None = None
    """`factorized`, `filtering` or `full`; None: the backbone's own default."""
    first_step: str | None = None
    """`condition`: an episode's first step enters no loss (S4WM, TSSM); `model`: it does (RSSM); None: by posterior."""
    networks: str = "dreamerv3"
    """Encoder and decoder: `dreamerv3` (normalised), or `planet` (plain convolutions; CW-VAE)."""
    image_output: str = "linear"
    """What makes pixels of the decoder's last layer: `linear`, `stretched_sigmoid` (-0.1 to 1.1), `tanh` (CW-VAE)."""
    image_loss: str = "nll"
    """`nll`: 0.5 * squared error, the unit-variance Gaussian's (S4WM, eq. 5); `sse`: squared error (DreamerV3);
    `gaussian`: the whole -ln N(x; decoded, image_std) with its constant (CW-VAE)."""
    image_std: float = 1.0
    """Standard deviation of every pixel under `gaussian`."""
    kl_balance: float | None = 0.8
    """Share of the KL's gradient that moves the prior (S4WM: 0.8); None: the plain KL (CW-VAE)."""
    kl_scale: float = 1.0
    """Weight of the KL against the image loss (the papers: 1; `small` takes 0.3, for pictures within minutes)."""
    free_bits: float = 0.0
    """Nats per step below which the KL is not pushed; 0 is off (S4WM), DreamerV3 uses 1."""
    unimix: float = 0.01
    """Share of the uniform distribution mixed into every categorical."""
    reward_head: bool = False
    """Predict the reward from concat[h, z]."""
    reward_scale: float = 1.0
    """Weight of the reward's 0.5 * squared error; a reward that comes once an episode needs about 10 to be heard."""
    continue_head: bool = False
    """Predict whether the episode goes on."""

    def __post_init__(self) -> None:
        _one_of("model.latent", self.latent, ("categorical", "gaussian"))
        _one_of("model.posterior", self.posterior, (None, "factorized", "filtering", "full"))
        _one_of("model.first_step", self.first_step, (None, "condition", "model"))
        _one_of("model.networks", self.networks, ("dreamerv3", "planet"))
        _one_of("model.image_output", self.image_output, ("linear", "stretched_sigmoid", "tanh"))
        _one_of("model.image_loss", self.image_loss, ("nll", "sse", "gaussian"))
        for name in ("kl_balance", "unimix"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"model.{name}: expected a number in [0, 1], got {getattr(self, name)}")
        if not 0 < self.image_std < math.inf:
            raise ValueError(f"model.image_std: expected a positive number, got {self.image_std}")
        for name in ("kl_scale", "free_bits", "reward_scale"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"model.{name}: expected a number of at least 0, got {getattr(self, name)}")
        for name in ("depth", "units", "groups", "classes", "latent_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name}: expected a positive integer, got {getattr(self, name)}")

    @classmethod
    def for_size(cls, size: str) -> Self:
        """The numbers of a size; raises `ValueError` for an unknown one."""
        _one_of("size", size, SIZES)
        numbers: dict[str, dict[str, Any]] = {
            "tiny": {"depth": 8, "units": 64, "groups": 8, "classes": 8},
            "small": {"depth": 16, "units": 256, "latent": "gaussian", "groups": 16, "classes": 16, "kl_scale": 0.3},
            "2d": {"depth": 32, "units": 512},
            "3d": {"depth": 48, "units": 1000},
        }
        return cls(**numbers[size])


def _one_of(key: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{key}: expected one of {', '.join(map(str, choices))}, got {value!r}")
