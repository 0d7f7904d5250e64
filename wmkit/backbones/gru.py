"""`gru`: the layer-normalised GRU cell of DreamerV3's recurrent state-space model, and the scan of all gated units."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.backbones.base import Backbone, BackboneConfig, PosteriorName
from wmkit.registry import register_backbone
from wmkit.tree import State


class GatedUnit(Backbone):
    """A cell h_t = cell(W x_t, h_{t-1}) whose features are h, so that the state is {"h": (B, hidden)}."""

    default_posterior: ClassVar[PosteriorName] = "filtering"
    from_input: nn.Linear
    from_state: nn.Linear

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: x (B, input_dim) -> (h (B, hidden), state)."""
        h = self._cell(self.from_input(x), state["h"])
        return h, {"h": h}

    def scan(
        self, x: Tensor, state: State | None = None, is_first: Tensor | None = None, return_state: bool = True
    ) -> tuple[Tensor, State | None]:
        """All steps; what the inputs contribute is one product for the whole sequence, the rest is a loop."""
        fresh = self.initial_state(x.shape[0])
        state = fresh if state is None else state
        features = []
        for t, projected in enumerate(self.from_input(x).unbind(1)):
            if is_first is not None:
                state = tree.where(is_first[:, t], fresh, state)
            state = {"h": self._cell(projected, state["h"])}
            features.append(state["h"])
        return torch.stack(features, dim=1), state if return_state else None

    @abstractmethod
    def _cell(self, projected: Tensor, h: Tensor) -> Tensor:
        """h_t from W x_t (B, 3 * hidden) and h_{t-1}, in the precision of h whatever autocast makes of products."""


@dataclasses.dataclass(kw_only=True)
class GRUConfig(BackboneConfig):
    """Numbers of a `GRU`."""

    hidden: int = 512
    """Width of the recurrent state, which is also the feature width."""

    @classmethod
    def for_size(cls, size: str) -> Self:
        """`3d` and `2d` are the RSSM-TBTT of the S4WM paper (GRU 2048, MLPs of 1000 and 512 units)."""
        sizes = {"tiny": (16, 16), "small": (256, 512), "2d": (512, 2048), "3d": (1000, 2048)}
        input_dim, hidden = sizes[size]
        return cls(input_dim=input_dim, hidden=hidden)


@register_backbone("gru", GRUConfig)
class GRU(GatedUnit):
    """A GRU cell with one LayerNorm over its three gates together.

        [r, c, u] = LN(W_x x_t + W_h h_{t-1})                    (3 * hidden), no bias, eps 1e-3
        h_t = sigmoid(u - 1) tanh(sigmoid(r) c) + (1 - sigmoid(u - 1)) h_{t-1}

    The -1 starts the cell with a long memory. The initial h is learned: tanh(initial), zero at first. Weights start
    normal, cut at two deviations, with variance 1 / mean(fan in, fan out) of [W_x, W_h]. The features are h, so that
    the state is {"h": (B, hidden)}.

    Source: Hafner et al., Mastering Diverse Domains through World Models, 2023 (the cell of its released code).
    """

    def __init__(self, input_dim: int, config: GRUConfig | None = None) -> None:
        super().__init__()
        config = config or GRUConfig(input_dim=input_dim)
        self.config, self.input_dim, self.feature_dim = config, input_dim, config.hidden
        self.from_input = nn.Linear(input_dim, 3 * config.hidden, bias=False)
        self.from_state = nn.Linear(config.hidden, 3 * config.hidden, bias=False)
        self.norm = nn.LayerNorm(3 * config.hidden, eps=1e-3)
        self.initial = nn.Parameter(torch.zeros(config.hidden))
        fan_in, fan_out = input_dim + config.hidden, 3 * config.hidden  # of the joint matrix [W_x, W_h]
        std = math.sqrt(2 / (fan_in + fan_out)) / 0.87962566  # of a unit normal that is cut at two of its own
        for layer in (self.from_input, self.from_state):
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)

    def initial_state(self, batch_size: int) -> State:
        """{"h": (B, hidden)}: the learned initial h in every row."""
        return {"h": torch.tanh(self.initial).repeat(batch_size, 1)}

    def _cell(self, projected: Tensor, h: Tensor) -> Tensor:
        """h_t from W_x x_t (B, 3 * hidden) and h_{t-1}, in the precision of h whatever autocast makes of products."""
        gates = self.norm((projected + self.from_state(h)).to(h.dtype))
        reset, candidate, update = gates.chunk(3, dim=-1)
        update = torch.sigmoid(update - 1)
        return torch.lerp(h, torch.tanh(torch.sigmoid(reset) * candidate), update)
