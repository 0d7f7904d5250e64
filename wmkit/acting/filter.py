"""What an agent reads while it acts: one observation in, the features of the step out."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from wmkit.checks import check_integer
from wmkit.evaluation.rollout import in_eval
from wmkit.tree import State
from wmkit.world_model import WorldModel


class Filter:
    """A model that reads rows of observations as they come, step after step, without gradients.

        with Filter(model) as read:
            features = read(image, action, is_first)    # (B, C, H, W), (B, A), (B,) bool -> (B, F)

    The same as `model.observe` of the whole sequence in `eval()`. Within the block the parameters must not change.
    `state` is that after the last observation: it can be kept, imagined from, and set, which rewinds.
    """

    def __init__(self, model: WorldModel, batch_size: int = 1, seed: int | None = None) -> None:
        """batch_size: rows that are read together. seed: of the latents; None takes the mode of each.

        Raises `ValueError` for dynamics that read ahead, and for less than one row.
        """
        if not model.dynamics.causal:
            raise ValueError("model: its dynamics read ahead, so that no step can be read before the next ones are")
        self.model, self.rows = model, check_integer("batch_size", batch_size, 1)
        self.state: State = None
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._block = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._block.enter_context(self.model.prepared())
        self.state = self.model.initial_state(self.rows)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.close()

    def __call__(self, image: Tensor, action: Tensor, is_first: Tensor | None = None) -> Tensor:
        """Read image (B, C, H, W), the action (B, A) that led to it, and whether an episode begins (B,) bool: the first
        time it does unless told otherwise. Returns features (B, F).

        Raises `ValueError` as `WorldModel.observe` does, and before the block is entered.
        """
        if self.state is None:
            raise ValueError("Filter: call it within `with Filter(model) as read:`")
        noise = None if self._generator is None else self.model.draw_noise(self.rows, 1, self._generator)
        first = None if is_first is None else is_first[:, None]
        with in_eval(self.model), torch.no_grad():  # inference mode would mark what the caller keeps
            seen, self.state = self.model.observe(image[:, None], action[:, None], first, state=self.state, noise=noise)
        return seen.features[:, 0].clone()
