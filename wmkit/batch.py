"""One batch of sequences, its check before training, and the legend of letters in every shape of this project.

Legend: `B` batch, `T` time, `D` feature width, `A` action size, `S` stochastic size, `L` levels,
`H` channels of an SSM (image height beside `C W`), `N` SSM state size, `C H W` image.

Time: step t holds `image[t]`, the `action[t]` that LED to it (zeros at an episode's first step), the `reward[t]`
received with it, `is_first[t]` and `is_terminal[t]`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences as a sampler hands them out and `WorldModel` reads them."""

    image: Tensor
    """(B, T, C, H, W) uint8 in 0..255."""
    action: Tensor
    """(B, T, A) float32; `action[:, t]` led to `image[:, t]`; one-hot for discrete actions, zeros at first steps."""
    reward: Tensor
    """(B, T) float32, received together with `image[:, t]`."""
    is_first: Tensor
    """(B, T) bool: True where an episode (or a window that is to be read as one) begins."""
    is_terminal: Tensor
    """(B, T) bool: True where the episode ended for good (not where it was cut)."""
    mask: Tensor
    """(B, T) bool: False on padding; padded steps enter no loss and no metric."""
    inner_reset: bool
    """Host-side flag: does any row reset at t >= 1? False lets backbones take their parallel path unread."""
    extras: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """Named ground truth, each (B, T, ...): `agent_pos`, `maze_layout`, ..."""

    def __post_init__(self) -> None:
        if self.image.ndim != 5:
            raise ValueError(f"Batch.image: expected (B, T, C, H, W), got shape {tuple(self.image.shape)}")
        lead = self.image.shape[:2]
        for name in ("action", "reward", "is_first", "is_terminal", "mask"):
            value = getattr(self, name)
            if value.shape[:2] != lead:
                raise ValueError(
                    f"Batch.{name}: expected leading axes (B, T) = {tuple(lead)} as in image, got {tuple(value.shape)}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T)."""
        return self.image.shape[0], self.image.shape[1]

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with `function` applied to every tensor."""
        return Batch(
            image=function(self.image),
            action=function(self.action),
            reward=function(self.reward),
            is_first=function(self.is_first),
            is_terminal=function(self.is_terminal),
            mask=function(self.mask),
            inner_reset=self.inner_reset,
            extras={key: function(value) for key, value in self.extras.items()},
        )

    def to(self, device: torch.device | str) -> Batch:
        """The batch on `device`."""
        return self.map(lambda x: x.to(device, non_blocking=True))

    def window(self, start: int, stop: int) -> Batch:
        """Steps start..stop-1 of every row; `inner_reset` is kept, which is safe but may cost the parallel path."""
        return self.map(lambda x: x[:, start:stop])


def check_batch(batch: Batch) -> None:
    """Refuse a batch that would poison training.

    Raises `ValueError` for a wrong dtype and for NaN or infinity, naming the key, the row and the time step. Reads
    tensor values: call it before the batch goes to a device.
    """
    expected = {"image": torch.uint8, "action": torch.float32, "reward": torch.float32}
    expected |= dict.fromkeys(("is_first", "is_terminal", "mask"), torch.bool)
    for key, dtype in expected.items():
        if getattr(batch, key).dtype != dtype:
            raise ValueError(f"Batch.{key}: expected {dtype}, got {getattr(batch, key).dtype}")
    for key, value in {"action": batch.action, "reward": batch.reward, **batch.extras}.items():
        bad = ~torch.isfinite(value)
        if bad.any():
            index = tuple(int(i) for i in bad.nonzero()[0])
            raise ValueError(
                f"Batch: {key} is {value[index].item()} in row {index[0]} at t = {index[1]} (index {index}); "
                "expected finite numbers. Find and drop the episode it came from."
            )
