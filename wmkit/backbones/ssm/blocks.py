"""The frame that all state space backbones share: residual blocks of [recurrence, recurrence, MLP]."""

from __future__ import annotations

import contextlib
import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from wmkit.backbones.base import Backbone, BackboneConfig, ParameterGroup, WithTables, kept_tables
from wmkit.tree import State
from wmkit_kernels import fft_conv

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"input_dim": 16, "layers": 1, "feedforward": 32},
    "small": {"input_dim": 192, "layers": 2, "feedforward": 768},
    "2d": {"input_dim": 512, "layers": 6, "feedforward": 2048},
    "3d": {"input_dim": 512, "layers": 6, "feedforward": 2048},
}
"""Of every size; `2d` and `3d` are those of S4WM."""


@dataclasses.dataclass(kw_only=True)
class StackConfig(BackboneConfig):
    """Numbers of a `Stack`."""

    state_sizes: ClassVar[dict[str, int]] = {"tiny": 8, "small": 64, "2d": 64, "3d": 64}

    layers: int = 2
    """Blocks; each holds two recurrent layers and, with `mlp`, one MLP."""
    state_size: int = 64
    """Real size of a system's state: half as many complex numbers."""
    feedforward: int = 768
    """Hidden units of the MLP."""
    mlp: bool = True
    """False leaves the MLP out of every block (the S4WM paper's No-MLP ablation)."""
    ssm_lr: float = 1e-3
    """Learning rate of what makes up the recurrence (`Recurrence.system_parameters`), without weight decay."""
    dropout: float = 0.0
    """Share of features set to zero in training."""

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"{type(self).__name__}: expected layers >= 1, got {self.layers}")
        if self.state_size < 2 or self.state_size % 2:
            raise ValueError(f"{type(self).__name__}: expected state_size even and >= 2, got {self.state_size}")

    @classmethod
    def for_size(cls, size: str) -> Self:
        """The shape of the size and this backbone's size of state."""
        return cls(**SHAPES[size], state_size=cls.state_sizes[size])


class Recurrence(WithTables):
    """A linear recurrence from H channels to H channels; it runs in float32 or better whatever autocast says."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> Tensor:
        """The state before any input: real, batch first."""

    @abstractmethod
    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: u (B, H), state -> (y (B, H), state)."""

    @abstractmethod
    def scan(
        self, u: Tensor, state: Tensor | None, is_first: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        """All steps: u (B, T, H), state or None for the initial one -> (y (B, T, H), last state or None)."""

    @abstractmethod
    def system_parameters(self) -> tuple[nn.Parameter, ...]:
        """Parameters that a small change moves far: own learning rate, no weight decay."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the recurrence: that of the parameters, at least float32."""
        return torch.promote_types(self.system_parameters()[0].dtype, torch.float32)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a sequence goes through a recurrence with one system per channel."""

    path: str
    """`step`, `convolution` or `recurrence`."""
    why: str


def plan(length: int, state: bool, resets: bool, return_state: bool) -> Plan:
    """The fastest way through `length` steps, given a state, resets, or asked for the last state."""
    if length == 1:
        return Plan("step", "there is one step")
    if resets:
        return Plan("recurrence", "rows may reset inside")
    if state:
        return Plan("recurrence", "a state comes in")
    if return_state:
        return Plan("recurrence", "the last state is wanted")
    return Plan("convolution", "it starts from zeros, nothing resets and nobody wants the last state")


class ChannelRecurrence(Recurrence):
    """H linear systems with one input and one output each: s' = A s + B u, y = 2 Re(C s) + D u.

    The state is (B, H, N, 2), zeros at first. From zeros the outputs are a convolution of the inputs.
    """

    C: nn.Parameter
    """(H, N, 2)."""
    D: nn.Parameter
    """(H,)."""

    @abstractmethod
    def kernel(self, length: int) -> Tensor:
        """What an input adds to its own and to later outputs, but for D: (H, length)."""

    @abstractmethod
    def recur(self, u: Tensor, state: Tensor | None, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """All steps with the states between them: u (B, T, H) -> (y (B, T, H), last state)."""

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, H, N, 2)."""
        return self.C.new_zeros(batch_size, *self.C.shape, dtype=self.dtype)

    def scan(
        self, u: Tensor, state: Tensor | None, is_first: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        """All steps, as `plan` says: u (B, T, H), state (B, H, N, 2) or None -> (y (B, T, H), last state or None)."""
        length = u.shape[1]
        path = plan(length, state is not None, is_first is not None, return_state).path
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.dtype)
            if path == "convolution":
                kernel = self.table(("kernel", length), lambda: with_feedthrough(self.kernel(length), self.D))
                return fft_conv(kernel, u), None
            if path == "recurrence":
                y, last = self.recur(u, state, is_first)
                return y, last if return_state else None
            state = self.initial_state(u.shape[0]) if state is None else state
            state = state if is_first is None else torch.where(is_first[:, 0, None, None, None], 0, state)
            y, last = self.step(u[:, 0], state)
            return y.unsqueeze(1), last if return_state else None


def with_feedthrough(kernel: Tensor, D: Tensor) -> Tensor:
    """The kernel of k * u + D u as one convolution: D is what an input adds at lag zero. (H, L), (H,) -> (H, L).

    As a product of its own D u would take four passes over (B, T, H) in a training step.
    """
    return kernel + torch.nn.functional.pad(D.to(kernel.dtype).unsqueeze(1), (0, kernel.shape[1] - 1))


class Stack(Backbone):
    """Blocks of [recurrence, recurrence, MLP], pre-norm, residual, and a LayerNorm at the end.

        layer: x + GLU(Linear(GELU(recurrence(LN x))))        MLP: x + Linear(GELU(Linear(LN x)))

    The state is a tuple with the state of each recurrence. `make` builds one.
    """

    def __init__(self, input_dim: int, config: StackConfig, make: Callable[[], Recurrence]) -> None:
        super().__init__()
        self.config = config
        self.input_dim = self.feature_dim = input_dim
        self.layers = nn.ModuleList()
        for _ in range(config.layers):
            self.layers.extend([Layer(input_dim, config, make()), Layer(input_dim, config, make())])
            if config.mlp:
                self.layers.append(MLP(input_dim, config))
        self.norm = nn.LayerNorm(input_dim)

    def initial_state(self, batch_size: int) -> State:
        """One tensor per recurrence."""
        return tuple(recurrence.initial_state(batch_size) for recurrence in self._recurrences())

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Recurrences keep their discretised systems, kernels and matrices until the outermost block ends."""
        with kept_tables(self):
            yield

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: x (B, input_dim) -> (features (B, input_dim), state)."""
        incoming, outgoing = iter(state), []
        for layer in self.layers:
            if isinstance(layer, Layer):
                x, after = layer.step(x, next(incoming))
                outgoing.append(after)
            else:
                x = layer(x)
        return self.norm(x), tuple(outgoing)

    def scan(
        self, x: Tensor, state: State | None = None, is_first: Tensor | None = None, return_state: bool = True
    ) -> tuple[Tensor, State | None]:
        """All steps, layer after layer."""
        incoming, outgoing = iter(state) if state is not None else None, []
        for layer in self.layers:
            if isinstance(layer, Layer):
                before = next(incoming) if incoming is not None else None
                x, after = layer.scan(x, before, is_first, return_state)
                outgoing.append(after)
            else:
                x = layer(x)
        return self.norm(x), tuple(outgoing) if return_state else None

    def parameter_groups(self) -> list[ParameterGroup]:
        """What makes up the recurrences: their own learning rate, no weight decay."""
        parameters = tuple(p for recurrence in self._recurrences() for p in recurrence.system_parameters())
        return [ParameterGroup("ssm", parameters, lr=self.config.ssm_lr, weight_decay=0.0)]

    def _recurrences(self) -> list[Recurrence]:
        return [layer.ssm for layer in self.layers if isinstance(layer, Layer)]


class MLP(nn.Module):
    """x + Linear(GELU(Linear(LN x)))."""

    def __init__(self, width: int, config: StackConfig) -> None:
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


class Layer(nn.Module):
    """x + GLU(Linear(GELU(recurrence(LN x)))).

    A recurrence answers in float32 or better, also in a model of half precision, which goes on in its own.
    """

    def __init__(self, width: int, config: StackConfig, recurrence: Recurrence) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ssm = recurrence
        self.mix = nn.Sequential(
            nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, 2 * width), nn.GLU(), nn.Dropout(config.dropout)
        )

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H), state -> the same shapes."""
        y, state = self.ssm.step(self.norm(x), state)
        return x + self.mix(y.to(self.norm.weight.dtype)), state

    def scan(
        self, x: Tensor, state: Tensor | None, is_first: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, H), state -> the same shapes."""
        y, after = self.ssm.scan(self.norm(x), state, is_first, return_state)
        return x + self.mix(y.to(self.norm.weight.dtype)), after
