"""`plain_gru`: the gated recurrent unit as it was published, without normalisation."""

from __future__ import annotations

import dataclasses
from typing import Self

import torch
from torch import Tensor, nn

from wmkit.backbones.base import BackboneConfig
from wmkit.backbones.gru import GatedUnit
from wmkit.registry import register_backbone
from wmkit.tree import State


@dataclasses.dataclass(kw_only=True)
class PlainGRUConfig(BackboneConfig):
    """Numbers of a `PlainGRU`."""

    hidden: int | None = None
    """Width of the recurrent state, which is also the feature width; None: that of the input."""

    @classmethod
    def for_size(cls, size: str) -> Self:
        """`small`, `2d` and `3d` are the cells of the Clockwork VAE paper: 200 units, and 800 for MineRL."""
        sizes = {"tiny": 16, "small": 200, "2d": 800, "3d": 800}
        return cls(input_dim=sizes[size])


@register_backbone("plain_gru", PlainGRUConfig)
class PlainGRU(GatedUnit):
    """A GRU cell with the reset gate behind the product, as in `torch.nn.GRUCell` and Keras.

        r = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)       u = sigmoid(W_u x_t + b_u + U_u h_{t-1} + c_u)
        n = tanh(W_n x_t + b_n + r (U_n h_{t-1} + c_n))      h_t = (1 - u) n + u h_{t-1}

    h_0 = 0. Weights start as in Keras: Glorot-uniform W, orthogonal U, no biases. The state is {"h": (B, hidden)}.

    Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014.
    """

    def __init__(self, input_dim: int, config: PlainGRUConfig | None = None) -> None:
        super().__init__()
        config = config or PlainGRUConfig(input_dim=input_dim)
        self.config, self.input_dim, self.feature_dim = config, input_dim, config.hidden or input_dim
        self.from_input = nn.Linear(input_dim, 3 * self.feature_dim)
        self.from_state = nn.Linear(self.feature_dim, 3 * self.feature_dim)
        nn.init.xavier_uniform_(self.from_input.weight)
        nn.init.orthogonal_(self.from_state.weight)
        nn.init.zeros_(self.from_input.bias)
        nn.init.zeros_(self.from_state.bias)

    def initial_state(self, batch_size: int) -> State:
        """{"h": (B, hidden)}: zeros."""
        return {"h": self.from_state.weight.new_zeros(batch_size, self.feature_dim)}

    def _cell(self, projected: Tensor, h: Tensor) -> Tensor:
        """h_t from W x_t + b (B, 3 * hidden) and h_{t-1}, in the precision of h whatever autocast makes of products."""
        width = 2 * self.feature_dim
        projected, recurrent = projected.to(h.dtype), self.from_state(h).to(h.dtype)
        reset, update = torch.sigmoid(projected[:, :width] + recurrent[:, :width]).chunk(2, dim=-1)
        candidate = torch.tanh(torch.addcmul(projected[:, width:], reset, recurrent[:, width:]))
        return torch.lerp(candidate, h, update)
