"""`s4`: the structured state space model (diagonal plus low rank) in the blocks of S4WM."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from wmkit.backbones.ssm.blocks import Recurrence, Stack, StackConfig, with_skip
from wmkit.backbones.ssm.hippo import legs_dplr
from wmkit.registry import register_backbone
from wmkit.tree import State
from wmkit_kernels.dispatch import use_triton, why_not_here, why_not_pairs
from wmkit_kernels.dplr.spans import SPANS, bytes_per_channel
from wmkit_kernels.dplr_kernel import dplr_kernel
from wmkit_kernels.dplr_scan import (
    ScanTables,
    StepTables,
    dplr_prepared_scan,
    dplr_scan,
    dplr_step,
    prepare_scan,
    prepare_step,
)
from wmkit_kernels.dplr_scan.step import why_never_one_pass
from wmkit_kernels.fft_conv import fft_conv

KEPT_BYTES = 150_000_000
"""The most that a backbone keeps as matrices of many steps. `small` takes 61 MB, `3d` would take 491."""

SHORT = 64
"""Steps from which on, on a GPU, a convolution is chosen over a recurrence: a guess, never measured on one. On a CPU
the convolution was faster at every length from 2 to 128 (batch 16 x 192 channels, and 8 x 512)."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How an S4 layer takes a sequence."""

    path: str
    """`step`, `convolution`, `recurrence`, or `spans`: the recurrence by kept matrices of 64 and 32 steps."""
    engine: str
    """`Triton`, `PyTorch`, or `Numba`: a step in one pass over the state, unless its inputs want a gradient."""
    why: str


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
    With gradients, a `scan` that starts from zeros and returns no state, as in training on whole episodes, is a
    convolution; with a state to take in or hand out, or with resets, it is a recurrence. Without gradients, on a CPU,
    it is a recurrence in longer spans, whose matrices are kept. `step` is the O(N) recurrence. All are the same map;
    `plan` says which one is taken, and why.

    Sources: Deng, Park, Ahn, Facing Off World Model Backbones, 2023 (S4WM); Gu et al., S4, 2022.
    """

    def __init__(self, input_dim: int, config: S4Config | None = None) -> None:
        numbers = config or S4Config(input_dim=input_dim)
        super().__init__(input_dim, numbers, lambda: StateSpace(input_dim, numbers))

    def plan(self, length: int, state: bool = False, resets: bool = False, return_state: bool = True) -> Plan:
        """How `scan` would take a sequence of `length` steps, given a state, resets, or asked for the last state."""
        (first, *_) = self._recurrences()
        assert isinstance(first, StateSpace), f"S4 is made of state spaces, not of {type(first).__name__}"
        return first.plan(length, state, resets, return_state)

    def scan(
        self, x: Tensor, state: State | None = None, is_first: Tensor | None = None, return_state: bool = True
    ) -> tuple[Tensor, State | None]:
        """All steps; a convolution takes them in one piece."""
        plan = self.plan(x.shape[1], state is not None, is_first is not None, return_state)
        if plan.path == "convolution":
            return self._scan(x, None, None, return_state=False)
        return super().scan(x, state, is_first, return_state)


class StateSpace(Recurrence):
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
        self.kept_bytes = KEPT_BYTES // (2 * config.layers)

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, H, N, 2)."""
        return self.C.new_zeros(batch_size, *self.C.shape, dtype=self.dtype)

    def system_parameters(self) -> tuple[nn.Parameter, ...]:
        """Lambda, P, B and dt."""
        return self.log_decay, self.frequency, self.P, self.B, self.log_dt

    def system(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(Lambda, P, B, C, dt) as the kernels take them."""
        P, B, C = (torch.view_as_complex(x.to(self.dtype)) for x in (self.P, self.B, self.C))
        Lambda = torch.complex(-torch.exp(self.log_decay.to(self.dtype)), self.frequency.to(self.dtype))
        return Lambda, P, B, C, torch.exp(self.log_dt.to(self.dtype))

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: u (B, H), state (B, H, N, 2) -> (y (B, H), state)."""
        if not torch.compiler.is_compiling():
            return dplr_step(self._step_tables(), u, state)
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.dtype)
            y, state = dplr_scan(*self.system(), u.unsqueeze(1), state)
            return y[:, 0] + self.D * u, state

    def scan(
        self, u: Tensor, state: Tensor | None, is_first: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        """All steps: u (B, T, H), state (B, H, N, 2) or None for zeros -> (y (B, T, H), last state or None)."""
        plan = self.plan(u.shape[1], state is not None, is_first is not None, return_state)
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.dtype)
            if plan.path == "convolution":
                return fft_conv(self._kernel(u.shape[1]), u), None
            if plan.path == "step":
                y, last = self.step(u[:, 0], self._start(u, state, is_first))
                return y.unsqueeze(1), last if return_state else None
            if self._keeps():
                y, last = dplr_prepared_scan(self._scan_tables(plan.path == "spans"), u, state, is_first)
                return y, last if return_state else None
            y, last = dplr_scan(*self.system(), u, state, is_first)
            return y + self.D * u, last if return_state else None

    def plan(self, length: int, state: bool, resets: bool, return_state: bool) -> Plan:
        """The fastest way for what is given; nothing of it depends on values."""
        triton = use_triton("auto", why_not_here(self.C) or why_not_pairs(self.C.shape[1]))
        engine, reading = "Triton" if triton else "PyTorch", self._keeps() and not triton
        if length == 1:
            one_pass = reading and self.C.device.type == "cpu" and self.dtype == torch.float32
            compiled = one_pass and why_never_one_pass() is None
            return Plan("step", "Numba" if compiled else engine, "there is one step")
        if reading and not resets and length >= SPANS[-1] and self._spans_fit():
            return Plan("spans", engine, "no gradient is wanted, so that matrices of many steps can be kept")
        why = self._why_states(state, resets, return_state)
        short = SHORT if triton else SPANS[-1] if reading else 0
        if why is None and length < short:
            why = f"it is shorter than {short} steps"
        if why is None:
            return Plan("convolution", engine, "it starts from zeros, nothing resets and nobody wants the last state")
        return Plan("recurrence", engine, why)

    @staticmethod
    def _why_states(state: bool, resets: bool, return_state: bool) -> str | None:
        """Why the states between the steps matter, or None."""
        if resets:
            return "rows may reset inside"
        return "a state comes in" if state else "the last state is wanted" if return_state else None

    def _start(self, u: Tensor, state: Tensor | None, is_first: Tensor | None) -> Tensor:
        """The state before a single step."""
        state = self.initial_state(u.shape[0]) if state is None else state
        return state if is_first is None else torch.where(is_first[:, 0, None, None, None], 0, state)

    def _keeps(self) -> bool:
        """Can tables be kept from call to call?"""
        return not self._wants_gradient() and not torch.compiler.is_compiling()

    def _spans_fit(self) -> bool:
        return self.C.shape[0] * bytes_per_channel(self.C.shape[1], self.dtype) <= self.kept_bytes

    def _kernel(self, length: int) -> Tensor:
        """What an input adds to its own and to later outputs: (H, >= length). Kept for the longest sequence seen."""

        def make() -> Tensor:
            return with_skip(dplr_kernel(*self.system(), length), self.D)

        if not self._keeps():
            return make()
        kept: Tensor = self._keep("kernel", make)
        if kept.shape[1] < length:
            del self._kept["kernel"]
            kept = self._keep("kernel", make)
        return kept

    def _step_tables(self) -> StepTables:
        """The discretised system for single steps."""
        return self._keep("step", lambda: prepare_step(*self.system(), self.D, dtype=self.dtype))

    def _scan_tables(self, spans: bool) -> ScanTables:
        """The matrices of many steps; those of spans take most of the time to make, and of the memory to keep."""
        name = "spans" if spans else "chunks"
        return self._keep(name, lambda: prepare_scan(*self.system(), self.D, dtype=self.dtype, spans=spans))
