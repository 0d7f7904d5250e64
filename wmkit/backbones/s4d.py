"""`s4d`: S4 without the low-rank part, every channel a diagonal state space, in the blocks of S4WM."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from wmkit.backbones.ssm.blocks import Recurrence, Stack, StackConfig, with_skip
from wmkit.backbones.ssm.hippo import legs_normal
from wmkit.registry import register_backbone
from wmkit_kernels.diagonal_scan.readout import (
    RESET_SPAN,
    SPAN,
    TRAINED_SPAN,
    ReadoutStep,
    ReadoutTables,
    diagonal_readout,
    diagonal_readout_step,
    prepare_readout,
    prepare_readout_step,
)
from wmkit_kernels.fft_conv import fft_conv
from wmkit_kernels.vandermonde import vandermonde

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
    With gradients, a `scan` that starts from zeros and returns no state is a convolution; otherwise a recurrence in
    spans of steps, whose matrices are kept where no gradient is wanted. `step` is O(N). All are the same map.

    Source: Gu, Gupta, Goel, Re, On the Parameterization and Initialization of Diagonal State Space Models, 2022.
    """

    def __init__(self, input_dim: int, config: S4DConfig | None = None) -> None:
        numbers = config or S4DConfig(input_dim=input_dim)
        super().__init__(input_dim, numbers, lambda: DiagonalStateSpace(input_dim, numbers))


class DiagonalStateSpace(Recurrence):
    """H systems with one input and one output each: s' = A s + B u, y = 2 Re(C s) + D u, stepped by dt_h.

    A = -exp(log_decay) + i frequency and C (H, N), dt and D (H,) are each channel's own; B = 1, since only the products
    of B and C matter. Complex parameters are stored as (..., 2). The recurrence runs in float32 or better whatever
    autocast says.
    """

    def __init__(self, channels: int, config: S4DConfig) -> None:
        super().__init__()
        self.discretisation = config.discretisation
        A = eigenvalues(config.init, config.state_size).expand(channels, -1)
        default, span = torch.get_default_dtype(), math.log(config.dt_max / config.dt_min)
        self.log_decay = nn.Parameter(torch.log(-A.real).to(default))
        self.frequency = nn.Parameter(A.imag.to(default).clone())
        self.C = nn.Parameter(torch.randn(*A.shape, 2) * math.sqrt(0.5))
        self.log_dt = nn.Parameter(torch.rand(channels) * span + math.log(config.dt_min))
        self.D = nn.Parameter(torch.randn(channels))

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, H, N, 2)."""
        return self.C.new_zeros(batch_size, *self.C.shape, dtype=self.dtype)

    def system_parameters(self) -> tuple[nn.Parameter, ...]:
        """A and dt."""
        return self.log_decay, self.frequency, self.log_dt

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        """(log a, b, C), each (H, N) complex128: the discretised system s' = a s + b u."""
        A = torch.complex(-torch.exp(self.log_decay.double()), self.frequency.double())
        log_a, b = discretise(self.discretisation, A, torch.exp(self.log_dt.double()).unsqueeze(-1))
        return log_a, b, torch.view_as_complex(self.C.double())

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: u (B, H), state (B, H, N, 2) -> (y (B, H), state)."""
        with torch.autocast(u.device.type, enabled=False):
            return diagonal_readout_step(self._step_tables(), u.to(self.dtype), state)

    def scan(
        self, u: Tensor, state: Tensor | None, is_first: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        """All steps: u (B, T, H), state (B, H, N, 2) or None for zeros -> (y (B, T, H), last state or None)."""
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.dtype)
            if self._wants_gradient() and state is None and is_first is None and not return_state:
                return fft_conv(with_skip(self.kernel(u.shape[1]), self.D), u), None
            y, last = diagonal_readout(self._scan_tables(u.shape[1], is_first is not None), u, state, is_first)
            return y, last if return_state else None

    def kernel(self, length: int) -> Tensor:
        """What an input adds to the outputs after it, but for D: (H, length)."""
        log_a, b, C = self.system()
        return vandermonde((C * b).to(torch.promote_types(self.dtype, torch.complex64)), log_a, length)

    def _step_tables(self) -> ReadoutStep:
        """The discretised system for single steps."""

        def make() -> ReadoutStep:
            log_a, b, C = self.system()
            return prepare_readout_step(torch.exp(log_a), b, C, self.D, self.dtype)

        return self._keep("step", make)

    def _scan_tables(self, length: int, resets: bool) -> ReadoutTables:
        """The matrices of many steps; where they are not kept, of no more steps than this call can use."""
        steps = min(length, RESET_SPAN if resets else TRAINED_SPAN) if self._wants_gradient() else SPAN

        def make() -> ReadoutTables:
            log_a, b, C = self.system()
            return prepare_readout(torch.exp(log_a), b, C, self.D, steps, self.dtype)

        return self._keep("scan", make)


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
