"""What gated recurrent units share: the road through time around a cell."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.backbones.base import Backbone, PosteriorName
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
