"""`s4`: the structured state space model (diagonal plus low rank) in the blocks of S4WM."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from wmkit.backbones.ssm.blocks import ChannelRecurrence, Stack, StackConfig
from wmkit.backbones.ssm.hippo import legs_dplr
from wmkit.registry import register_backbone
from wmkit_kernels import dplr_kernel, dplr_prepared_scan, dplr_scan, dplr_step, prepare_scan, prepare_step


@dataclasses.dataclass(kw_only=True)
class S4Config(StackConfig):
    """Numbers of an `S4`; `2d` and `3d` are the S4WM of the paper: 6 blocks of width 512."""

    dt_min: float = 1e-3
    """Shortest step at the start; a channel of step dt remembers about 1 / dt inputs."""
    dt_max: float = 1e-1
    """Longest step at the start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"S4Config: expected 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")


@register_backbone("s4", S4Config)
class S4(Stack):
    """Blocks of [S4, S4, MLP], pre-norm, residual, and a LayerNorm at the end.

        S4 layer: x + GLU(Linear(GELU(SSM(LN x))))        MLP: x + Linear(GELU(Linear(LN x)))

    The state is a tuple with one (B, H, N, 2) tensor per S4 layer, H = `input_dim` channels and N conjugate pairs.
    A `scan` that starts from zeros and returns no state, as in training on whole episodes, is a convolution; with a
    state to take in or hand out, or with resets, it is a recurrence. `step` is the O(N) recurrence. All are the same
    map; `ssm.blocks.plan` says which one is taken, and why.

    Sources: Deng, Park, Ahn, Facing Off World Model Backbones, 2023 (S4WM); Gu et al., S4, 2022.
    """

    def __init__(self, input_dim: int, config: S4Config | None = None) -> None:
        numbers = config or S4Config(input_dim=input_dim)
        super().__init__(input_dim, numbers, lambda: StateSpace(input_dim, numbers))


class StateSpace(ChannelRecurrence):
    """H linear systems with one input and one output each: s' = A s + B u, y = 2 Re(C s) + D u, stepped by dt_h.

    A = diag(Lambda) - P P^* and B are shared by the channels, Lambda = -exp(log_decay) + i frequency; C, D and dt are
    each channel's own. HiPPO-LegS at the start. Complex parameters are stored as (..., 2). The recurrence runs in
    float32 or better whatever autocast says.
    """

    def __init__(self, channels: int, config: S4Config) -> None:
        super().__init__()
        Lambda, P, B = legs_dplr(config.state_size)
        pairs, default = Lambda.shape[0], torch.get_default_dtype()
        span = math.log(config.dt_max / config.dt_min)
        self.log_decay = nn.Parameter(torch.log(-Lambda.real).to(default))
        self.frequency = nn.Parameter(Lambda.imag.to(default))
        self.P = nn.Parameter(torch.view_as_real(P).to(default))
        self.B = nn.Parameter(torch.view_as_real(B).to(default))
        self.C = nn.Parameter(torch.randn(channels, pairs, 2) * math.sqrt(0.5))
        self.log_dt = nn.Parameter(torch.rand(channels) * span + math.log(config.dt_min))
        self.D = nn.Parameter(torch.randn(channels))

    def system_parameters(self) -> tuple[nn.Parameter, ...]:
        """Lambda, P, B and dt."""
        return self.log_decay, self.frequency, self.P, self.B, self.log_dt

    def system(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(Lambda, P, B, C, dt) as the kernels take them."""
        P, B, C = (torch.view_as_complex(x.to(self.dtype)) for x in (self.P, self.B, self.C))
        Lambda = torch.complex(-torch.exp(self.log_decay.to(self.dtype)), self.frequency.to(self.dtype))
        return Lambda, P, B, C, torch.exp(self.log_dt.to(self.dtype))

    def kernel(self, length: int) -> Tensor:
        """What an input adds to its own and to later outputs, but for D: (H, length)."""
        return dplr_kernel(*self.system(), length)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: u (B, H), state (B, H, N, 2) -> (y (B, H), state)."""
        if not torch.compiler.is_compiling():
            tables = self.table("step", lambda: prepare_step(*self.system(), self.D, dtype=self.dtype))
            return dplr_step(tables, u, state)
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.dtype)
            y, state = dplr_scan(*self.system(), u.unsqueeze(1), state)
            return y[:, 0] + self.D * u, state

    def recur(self, u: Tensor, state: Tensor | None, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """All steps with the states between them: u (B, T, H) -> (y (B, T, H), last state)."""
        if self.tables is None or self.wants_gradient() or torch.compiler.is_compiling():
            y, last = dplr_scan(*self.system(), u, state, is_first)
            return y + self.D * u, last
        tables = self.table("scan", lambda: prepare_scan(*self.system(), self.D, dtype=self.dtype))
        return dplr_prepared_scan(tables, u, state, is_first)
