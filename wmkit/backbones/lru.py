"""`lru`: the linear recurrent unit, a complex diagonal recurrence without a clock, in the blocks of S4WM."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from wmkit.backbones.ssm.blocks import Stack, StackConfig
from wmkit.backbones.ssm.diagonal_mimo import MimoStateSpace
from wmkit.registry import register_backbone


@dataclasses.dataclass(kw_only=True)
class LRUConfig(StackConfig):
    """Numbers of an `LRU`."""

    state_sizes: ClassVar[dict[str, int]] = {"tiny": 16, "small": 256, "2d": 512, "3d": 512}

    state_size: int = 256
    r_min: float = 0.9
    """Smallest |a| at the start; a state of modulus r remembers about 1 / (1 - r) inputs."""
    r_max: float = 0.999
    """Largest |a| at the start."""
    max_phase: float = math.pi / 10
    """Largest angle of a at the start: small where long sequences are to be remembered."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.r_min < self.r_max < 1:
            raise ValueError(f"LRUConfig: expected 0 < r_min < r_max < 1, got {self.r_min} and {self.r_max}")
        if not 0 < self.max_phase <= 2 * math.pi:
            raise ValueError(f"LRUConfig: expected 0 < max_phase <= 2 pi, got {self.max_phase}")


@register_backbone("lru", LRUConfig)
class LRU(Stack):
    """Blocks of [LRU, LRU, MLP], as `s4` but with the recurrence learned as such and not discretised from a clock.

    The state is a tuple with one (B, N, 2) tensor per LRU layer.

    Source: Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences, 2023.
    """

    def __init__(self, input_dim: int, config: LRUConfig | None = None) -> None:
        numbers = config or LRUConfig(input_dim=input_dim)
        super().__init__(input_dim, numbers, lambda: LinearRecurrentUnit(input_dim, numbers))


class LinearRecurrentUnit(MimoStateSpace):
    """s_t = a s_{t-1} + gamma B u_t, y_t = 2 Re(C s_t) + D u_t, a = exp(-exp(log_decay) + i exp(log_phase)).

    So |a| < 1 whatever is learned. gamma = exp(log_gamma) starts at sqrt(1 - |a|^2), which gives every state the
    variance of its input. At the start a is uniform in the ring r_min <= |a| <= r_max, 0 <= angle <= max_phase. The
    factor 2 of the outputs is in the initial C. Complex parameters are stored as (..., 2).
    """

    def __init__(self, channels: int, config: LRUConfig) -> None:
        super().__init__()
        pairs = config.state_size // 2
        squared = torch.rand(pairs, dtype=torch.float64) * (config.r_max**2 - config.r_min**2) + config.r_min**2
        phase = config.max_phase * (1 - torch.rand(pairs, dtype=torch.float64))  # in (0, max_phase]: its log is finite
        default = torch.get_default_dtype()
        self.log_decay = nn.Parameter(torch.log(-0.5 * torch.log(squared)).to(default))
        self.log_phase = nn.Parameter(torch.log(phase).to(default))
        self.log_gamma = nn.Parameter((0.5 * torch.log1p(-squared)).to(default))
        self.B = nn.Parameter(torch.randn(pairs, channels, 2) / math.sqrt(2 * channels))
        self.C = nn.Parameter(torch.randn(channels, pairs, 2) / math.sqrt(4 * pairs))
        self.D = nn.Parameter(torch.randn(channels))

    @property
    def pairs(self) -> int:
        """N: complex numbers of the state."""
        return self.log_decay.shape[0]

    def system_parameters(self) -> tuple[nn.Parameter, ...]:
        """a, gamma and B."""
        return self.log_decay, self.log_phase, self.log_gamma, self.B

    def system(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(a, gamma B, C, D); a in double precision before it is rounded."""
        log_a = torch.complex(-torch.exp(self.log_decay.double()), torch.exp(self.log_phase.double()))
        B, C = (torch.view_as_complex(x.to(self.dtype)) for x in (self.B, self.C))
        gamma = torch.exp(self.log_gamma.to(self.dtype)).unsqueeze(-1)
        return torch.exp(log_a).to(torch.promote_types(self.dtype, torch.complex64)), gamma * B, C, self.D
