"""`s4d`: S4 without the low-rank part, every channel a diagonal state space, in the blocks of S4WM."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from wmkit.backbones.ssm.blocks import ChannelRecurrence, Stack, StackConfig
from wmkit.backbones.ssm.hippo import legs_normal
from wmkit.registry import register_backbone
from wmkit_kernels import (
    diagonal_readout,
    diagonal_readout_step,
    prepare_readout,
    prepare_readout_step,
    vandermonde,
)
from wmkit_kernels.diagonal_scan import RESET_SPAN, SPAN, TRAINED_SPAN, ReadoutStep, ReadoutTables

INITS = ("legs", "lin", "inv")
DISCRETISATIONS = ("zoh", "bilinear")


@dataclasses.dataclass(kw_only=True)
class S4DConfig(StackConfig):
    """Numbers of an `S4D`."""

    init: str = "legs"
    """Eigenvalues at the start: `legs` (those of HiPPO-LegS's normal part), `lin` or `inv` (Gu et al. 2022)."""
    discretisation: str = "zoh"
    """`zoh` (zero-order hold: exact for inputs constant over a step) or `bilinear` (as S4)."""
    dt_min: float = 1e-3
    """Shortest step at the start; a channel of step dt remembers about 1 / dt inputs."""
    dt_max: float = 1e-1
    """Longest step at the start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in {"init": INITS, "discretisation": DISCRETISATIONS}.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"S4DConfig: expected {name} one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"S4DConfig: expected 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")


@register_backbone("s4d", S4DConfig)
class S4D(Stack):
    """Blocks of [S4D, S4D, MLP], as `s4` but with a diagonal A in every channel.

    The state is a tuple with one (B, H, N, 2) tensor per S4D layer, H = `input_dim` channels and N conjugate pairs.
    A `scan` that starts from zeros and returns no state is a convolution; otherwise a recurrence in spans of steps.
    `step` is O(N). All are the same map.

    Source: Gu, Gupta, Goel, Re, On the Parameterization and Initialization of Diagonal State Space Models, 2022.
    """

    def __init__(self, input_dim: int, config: S4DConfig | None = None) -> None:
        numbers = config or S4DConfig(input_dim=input_dim)
        super().__init__(input_dim, numbers, lambda: DiagonalStateSpace(input_dim, numbers))


class DiagonalStateSpace(ChannelRecurrence):
    """H systems with one input and one output each: s' = A s + B u, y = 2 Re(C s) + D u, stepped by dt_h.

    A = -exp(log_decay) + i frequency and C (H, N), dt and D (H,) are each channel's own; B = 1, since only the products
    of B and C matter. Complex parameters are stored as (..., 2). The recurrence runs in float32 or better whatever
    autocast says.
    """

    def __init__(self, channels: int, config: S4DConfig) -> None:
        super().__init__()
        self.discretisation = config.discretisation
        A = eigenvalues(config.init, config.state_size).expand(channels, -1)  # (H, N)
        default, span = torch.get_default_dtype(), math.log(config.dt_max / config.dt_min)
        self.log_decay = nn.Parameter(torch.log(-A.real).to(default))
        self.frequency = nn.Parameter(A.imag.to(default).clone())
        self.C = nn.Parameter(torch.randn(*A.shape, 2) * math.sqrt(0.5))
        self.log_dt = nn.Parameter(torch.rand(channels) * span + math.log(config.dt_min))
        self.D = nn.Parameter(torch.randn(channels))

    def system_parameters(self) -> tuple[nn.Parameter, ...]:
        """A and dt."""
        return self.log_decay, self.frequency, self.log_dt

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        """(log a, b, C), each (H, N) complex128: the discretised system s' = a s + b u."""
        A = torch.complex(-torch.exp(self.log_decay.double()), self.frequency.double())
        log_a, b = discretise(self.discretisation, A, torch.exp(self.log_dt.double()).unsqueeze(-1))
        return log_a, b, torch.view_as_complex(self.C.double())

    def kernel(self, length: int) -> Tensor:
        """What an input adds to the outputs after it, but for D: (H, length)."""
        log_a, b, C = self.system()
        return vandermonde((C * b).to(torch.promote_types(self.dtype, torch.complex64)), log_a, length)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: u (B, H), state (B, H, N, 2) -> (y (B, H), state)."""

        def make() -> ReadoutStep:
            log_a, b, C = self.system()
            return prepare_readout_step(torch.exp(log_a), b, C, self.D, self.dtype)

        with torch.autocast(u.device.type, enabled=False):
            return diagonal_readout_step(self.table("step", make), u.to(self.dtype), state)

    def recur(self, u: Tensor, state: Tensor | None, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """All steps with the states between them: u (B, T, H) -> (y (B, T, H), last state).

        Where the matrices are not kept, they are of no more steps than this call can use.
        """
        kept = self.tables is not None and not self.wants_gradient()
        steps = SPAN if kept else min(u.shape[1], TRAINED_SPAN if is_first is None else RESET_SPAN)

        def make() -> ReadoutTables:
            log_a, b, C = self.system()
            return prepare_readout(torch.exp(log_a), b, C, self.D, steps, self.dtype)

        return diagonal_readout(self.table(("scan", steps), make), u, state, is_first)


def eigenvalues(init: str, state_size: int) -> Tensor:
    """A at the start, one of each conjugate pair: (N,) complex128, N = state_size / 2.

    lin: -1/2 + i pi n. inv: -1/2 + i (M / pi) (M / (2 n + 1) - 1), M = state_size.
    """
    if init == "legs":
        return legs_normal(state_size)[0]
    n = torch.arange(state_size // 2, dtype=torch.float64)
    frequency = math.pi * n if init == "lin" else state_size / math.pi * (state_size / (2 * n + 1) - 1)
    return torch.complex(torch.full_like(n, -0.5), frequency)


def discretise(method: str, A: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """(log a, b) of s' = a s + b u with B = 1.

    zoh: a = e^{dt A}, b = (a - 1) / A. bilinear: a = (1 + dt A / 2) / (1 - dt A / 2), b = dt / (1 - dt A / 2).
    """
    if method == "zoh":
        log_a = dt * A
        return log_a, torch.expm1(log_a) / A
    half = dt * A / 2
    return torch.log1p(half) - torch.log1p(-half), dt / (1 - half)
