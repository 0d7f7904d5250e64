"""`s5`: one diagonal state space with many inputs and outputs per layer, in the blocks of S4WM (S5WM)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from wmkit.backbones.s4d import DISCRETISATIONS, discretise
from wmkit.backbones.ssm.blocks import Stack, StackConfig
from wmkit.backbones.ssm.diagonal_mimo import MimoStateSpace
from wmkit.backbones.ssm.hippo import legs_normal
from wmkit.registry import register_backbone


@dataclasses.dataclass(kw_only=True)
class S5Config(StackConfig):
    """Numbers of an `S5`."""

    state_sizes: ClassVar[dict[str, int]] = {"tiny": 16, "small": 256, "2d": 512, "3d": 512}

    state_size: int = 256
    blocks: int = 8
    """HiPPO matrices along the diagonal at the start, each of size state_size / blocks (R2I: 8)."""
    discretisation: str = "bilinear"
    """`bilinear` (R2I) or `zoh` (S5)."""
    dt_min: float = 1e-3
    """Shortest step at the start; a state of step dt remembers about 1 / dt inputs."""
    dt_max: float = 1e-1
    """Longest step at the start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discretisation not in DISCRETISATIONS:
            choices = ", ".join(DISCRETISATIONS)
            raise ValueError(f"S5Config: expected discretisation one of {choices}, got {self.discretisation!r}")
        if self.blocks < 1 or self.state_size % (2 * self.blocks):
            raise ValueError(
                f"S5Config: expected state_size a multiple of 2 * blocks, got {self.state_size} and {self.blocks}"
            )
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"S5Config: expected 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")


@register_backbone("s5", S5Config)
class S5(Stack):
    """Blocks of [S5, S5, MLP], as `s4` but with one state for all channels of a layer.

    The state is a tuple with one (B, N, 2) tensor per S5 layer: small enough to keep at every step of a sequence, as
    imagining from every step needs.

    Sources: Smith, Warrington, Linderman, Simplified State Space Layers for Sequence Modeling, 2023; Samsami et al.,
    Mastering Memory Tasks with World Models, 2024 (R2I).
    """

    def __init__(self, input_dim: int, config: S5Config | None = None) -> None:
        numbers = config or S5Config(input_dim=input_dim)
        super().__init__(input_dim, numbers, lambda: S5StateSpace(input_dim, numbers))


class S5StateSpace(MimoStateSpace):
    """s' = A s + B u, y = 2 Re(C s) + D u, A = -exp(log_decay) + i frequency diagonal, stepped by dt_n.

    At the start A is `blocks` times the normal part of HiPPO-LegS in its eigenvectors V, B = V^* B_0 and C = C_0 V with
    B_0 and C_0 random of variance 1 / H and 1 / state_size. Complex parameters are stored as (..., 2).
    """

    def __init__(self, channels: int, config: S5Config) -> None:
        super().__init__()
        self.discretisation = config.discretisation
        Lambda, basis = legs_normal(config.state_size // config.blocks)  # of one block
        Lambda, default = Lambda.repeat(config.blocks), torch.get_default_dtype()  # (N,)
        B = torch.randn(config.blocks, basis.shape[1], channels) / math.sqrt(channels)
        C = torch.randn(channels, config.blocks, basis.shape[1]) / math.sqrt(config.state_size)
        B, C = (basis @ B.to(basis.dtype)).flatten(0, 1), (C.to(basis.dtype) @ basis.mH).flatten(1)  # (N, H), (H, N)
        span = math.log(config.dt_max / config.dt_min)
        self.log_decay = nn.Parameter(torch.log(-Lambda.real).to(default))
        self.frequency = nn.Parameter(Lambda.imag.to(default))
        self.B = nn.Parameter(torch.view_as_real(B).to(default))
        self.C = nn.Parameter(torch.view_as_real(C).to(default))
        self.log_dt = nn.Parameter(torch.rand(len(Lambda)) * span + math.log(config.dt_min))
        self.D = nn.Parameter(torch.randn(channels))

    @property
    def pairs(self) -> int:
        """N: conjugate pairs of the state."""
        return self.frequency.shape[0]

    def system_parameters(self) -> tuple[nn.Parameter, ...]:
        """A, B and dt."""
        return self.log_decay, self.frequency, self.B, self.log_dt

    def system(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(a, B, C, D); a in double precision before it is rounded."""
        A = torch.complex(-torch.exp(self.log_decay.double()), self.frequency.double())
        log_a, gain = discretise(self.discretisation, A, torch.exp(self.log_dt.double()))
        dtype = torch.promote_types(self.dtype, torch.complex64)
        B, C = (torch.view_as_complex(x.to(self.dtype)) for x in (self.B, self.C))
        return torch.exp(log_a).to(dtype), gain.to(dtype).unsqueeze(-1) * B, C, self.D
