"""`s4`: the structured state space model (diagonal plus low rank) in the blocks of S4WM."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from wmkit.backbones.base import Backbone, BackboneConfig, ParameterGroup
from wmkit.backbones.hippo import legs_dplr
from wmkit.registry import register_backbone
from wmkit.tree import State
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
from wmkit_kernels.dplr_spans import SPANS
from wmkit_kernels.fft_conv import fft_conv

Kept = TypeVar("Kept")

PIECE = 4096
"""Rows (sequences times steps) that a scan without gradients takes through all layers at once, so that what lies
between two layers stays near the cache of a CPU. At width 192 2,048 to 8,192 rows differ by a tenth."""


@dataclasses.dataclass(kw_only=True)
class S4Config(BackboneConfig):
    """Numbers of an `S4`."""

    layers: int = 2
    """Blocks; each holds two S4 layers and, with `mlp`, one MLP."""
    state_size: int = 64
    """Real size of a channel's state: half as many conjugate pairs."""
    feedforward: int = 768
    """Hidden units of the MLP."""
    mlp: bool = True
    """False leaves the MLP out of every block (the paper's No-MLP ablation)."""
    dt_min: float = 1e-3
    """Shortest step at the start; a channel of step dt remembers about 1 / dt inputs."""
    dt_max: float = 1e-1
    ssm_lr: float = 1e-3
    """Learning rate of Lambda, P, B and dt, which also have no weight decay."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"S4Config: expected 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")
        if self.layers < 1:
            raise ValueError(f"S4Config: expected layers >= 1, got {self.layers}")

    @classmethod
    def for_size(cls, size: str) -> Self:
        """`2d` and `3d` are the S4WM of the paper: 6 blocks of width 512."""
        sizes = {
            "tiny": cls(input_dim=16, layers=1, state_size=8, feedforward=32),
            "small": cls(input_dim=192, layers=2, state_size=64, feedforward=768),
            "2d": cls(input_dim=512, layers=6, state_size=64, feedforward=2048),
            "3d": cls(input_dim=512, layers=6, state_size=64, feedforward=2048),
        }
        return sizes[size]


@register_backbone("s4", S4Config)
class S4(Backbone):
    """Blocks of [S4, S4, MLP], pre-norm, residual, and a LayerNorm at the end.

        S4 layer: x + GLU(Linear(GELU(SSM(LN x))))        MLP: x + Linear(GELU(Linear(LN x)))

    The state is a tuple with one (B, H, N, 2) tensor per S4 layer, H = `input_dim` channels and N conjugate pairs.
    With gradients, a `scan` that starts from zeros and returns no state, as in training on whole episodes, is a
    convolution; with a state to take in or hand out, or with resets, it is a recurrence in chunks of steps. Without
    gradients it is a recurrence in longer spans, whose matrices are kept. `step` is the O(N) recurrence. All are the
    same map.

    Sources: Deng, Park, Ahn, Facing Off World Model Backbones, 2023 (S4WM); Gu et al., S4, 2022.
    """

    def __init__(self, input_dim: int, config: S4Config | None = None) -> None:
        super().__init__()
        self.config = config or S4Config(input_dim=input_dim)
        self.input_dim = self.feature_dim = input_dim
        self.layers = nn.ModuleList(
            layer for _ in range(self.config.layers) for layer in _block(input_dim, self.config)
        )
        self.norm = nn.LayerNorm(input_dim)

    def initial_state(self, batch_size: int) -> State:
        """Zeros: one (B, H, N, 2) tensor per S4 layer."""
        return tuple(layer.ssm.initial_state(batch_size) for layer in self.layers if isinstance(layer, S4Layer))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: x (B, input_dim) -> (features (B, input_dim), state)."""
        incoming, outgoing = iter(state), []
        for layer in self.layers:
            if isinstance(layer, S4Layer):
                x, after = layer.step(x, next(incoming))
                outgoing.append(after)
            else:
                x = layer(x)
        return self.norm(x), tuple(outgoing)

    def scan(
        self, x: Tensor, state: State | None = None, is_first: Tensor | None = None, return_state: bool = True
    ) -> tuple[Tensor, State | None]:
        """All steps; without gradients in pieces of time, as law 2 allows, so that no layer holds all steps at once."""
        if torch.is_grad_enabled():
            return self._scan(x, state, is_first, return_state)
        sizes, features = _pieces(*x.shape[:2]), []
        resets = [None] * len(sizes) if is_first is None else torch.split(is_first, sizes, dim=1)
        for steps, reset in zip(torch.split(x, sizes, dim=1), resets, strict=True):
            y, state = self._scan(steps, state, reset, return_state=True)
            features.append(y)
        return torch.cat(features, dim=1), state if return_state else None

    def _scan(
        self, x: Tensor, state: State | None, is_first: Tensor | None, return_state: bool
    ) -> tuple[Tensor, State | None]:
        """All steps, layer after layer."""
        incoming, outgoing = iter(state) if state is not None else None, []
        for layer in self.layers:
            if isinstance(layer, S4Layer):
                before = next(incoming) if incoming is not None else None
                x, after = layer.scan(x, before, is_first, return_state)
                outgoing.append(after)
            else:
                x = layer(x)
        return self.norm(x), tuple(outgoing) if return_state else None

    def parameter_groups(self) -> list[ParameterGroup]:
        """Lambda, P, B and dt of every layer: their own learning rate, no weight decay."""
        layers = [layer.ssm for layer in self.layers if isinstance(layer, S4Layer)]
        parameters = tuple(p for ssm in layers for p in (ssm.log_decay, ssm.frequency, ssm.P, ssm.B, ssm.log_dt))
        return [ParameterGroup("s4_ssm", parameters, lr=self.config.ssm_lr, weight_decay=0.0)]


def _pieces(batch_size: int, length: int) -> list[int]:
    """Lengths of pieces of about `PIECE` rows, in whole spans of the recurrence; what is left of a span comes last."""
    span = SPANS[0]
    longest, left = max(span, PIECE // max(1, batch_size) // span * span), length % span
    whole = length - left
    return [size for size in (*[longest] * (whole // longest), whole % longest, left) if size] or [length]


def _block(width: int, config: S4Config) -> list[nn.Module]:
    layers: list[nn.Module] = [S4Layer(width, config), S4Layer(width, config)]
    return [*layers, MLP(width, config)] if config.mlp else layers


class MLP(nn.Module):
    """x + Linear(GELU(Linear(LN x)))."""

    def __init__(self, width: int, config: S4Config) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.feedforward),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feedforward, width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., H) -> (..., H)."""
        return x + self.branch(x)


class S4Layer(nn.Module):
    """x + GLU(Linear(GELU(SSM(LN x))))."""

    def __init__(self, width: int, config: S4Config) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ssm = StateSpace(width, config)
        self.mix = nn.Sequential(
            nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, 2 * width), nn.GLU(), nn.Dropout(config.dropout)
        )

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H), (B, H, N, 2) -> the same shapes."""
        y, state = self.ssm.step(self.norm(x), state)
        return x + self.mix(y), state

    def scan(
        self, x: Tensor, state: Tensor | None, is_first: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, H), (B, H, N, 2) -> the same shapes."""
        y, after = self.ssm.scan(self.norm(x), state, is_first, return_state)
        return x + self.mix(y), after


class StateSpace(nn.Module):
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
        self._kept: dict[str, _Cached] = {}

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, H, N, 2)."""
        return self.C.new_zeros(batch_size, *self.C.shape, dtype=self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the recurrence: that of the parameters, at least float32."""
        return torch.promote_types(self.C.dtype, torch.float32)

    def system(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(Lambda, P, B, C, dt) as the kernels take them."""
        P, B, C = (torch.view_as_complex(x.to(self.dtype)) for x in (self.P, self.B, self.C))
        Lambda = torch.complex(-torch.exp(self.log_decay.to(self.dtype)), self.frequency.to(self.dtype))
        return Lambda, P, B, C, torch.exp(self.log_dt.to(self.dtype))

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: u (B, H), state (B, H, N, 2) -> (y (B, H), state)."""
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.dtype)
            y, state = dplr_step(self._step_tables(), u, state)
            return y + self.D * u, state

    def scan(
        self, u: Tensor, state: Tensor | None, is_first: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        """All steps: u (B, T, H), state (B, H, N, 2) or None for zeros -> (y (B, T, H), last state or None)."""
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.dtype)
            if not self._wants_gradient():
                y, last = dplr_prepared_scan(self._scan_tables(), u, state, is_first)
                return y, last if return_state else None
            if state is None and is_first is None and not return_state:
                return fft_conv(dplr_kernel(*self.system(), u.shape[1]), u) + self.D * u, None
            y, last = dplr_scan(*self.system(), u, state, is_first)
            return y + self.D * u, last if return_state else None

    def _step_tables(self) -> StepTables:
        """The discretised system for single steps."""
        return self._keep("step", lambda: prepare_step(*self.system(), dtype=self.dtype))

    def _scan_tables(self) -> ScanTables:
        """The matrices of many steps."""
        return self._keep("scan", lambda: prepare_scan(*self.system(), self.D, dtype=self.dtype))

    def _wants_gradient(self) -> bool:
        """Is a gradient in the parameters wanted?"""
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())

    def _keep(self, name: str, make: Callable[[], Kept]) -> Kept:
        """`make()`, kept as long as no parameter changes and no gradient is wanted.

        Made outside inference mode, so that what is kept can serve a call that differentiates in its inputs.
        """
        parameters = tuple(self.parameters())
        if self._wants_gradient() or any(p.is_inference() for p in parameters):  # inference tensors count no versions
            return make()
        kept = self._kept.get(name)
        if kept is None or not kept.is_current(parameters):
            with torch.inference_mode(False), torch.no_grad():
                kept = self._kept[name] = _Cached(parameters, make())
        return kept.value


class _Cached:
    """A value computed from parameters, and how to tell that they are still what it was computed from.

    In-place changes (`load_state_dict`, most optimisers) raise a tensor's version; `.to()` and functional calls put
    another storage in its place; fused optimisers change values without a trace, so every optimiser step counts. A
    change through `parameter.data` is seen by none of these. Aliases are held, so that no freed address can come back
    as another parameter's.
    """

    optimiser_steps: ClassVar[int] = 0

    def __init__(self, parameters: tuple[Tensor, ...], value: Any) -> None:
        self._aliases = tuple(p.detach() for p in parameters)
        self._stamp = self._stamp_of(self._aliases)
        self.value = value

    def is_current(self, parameters: tuple[Tensor, ...]) -> bool:
        """Are `parameters` the ones, and with the values, that the cached value came from?"""
        return self._stamp_of(parameters) == self._stamp

    @classmethod
    def _stamp_of(cls, tensors: tuple[Tensor, ...]) -> tuple[object, ...]:
        return cls.optimiser_steps, *((t.data_ptr(), t.dtype, t.device, t._version) for t in tensors)

    @classmethod
    def count_optimiser_step(cls, *_: object) -> None:
        """To be called after every step of every optimiser."""
        cls.optimiser_steps += 1


register_optimizer_step_post_hook(_Cached.count_optimiser_step)
