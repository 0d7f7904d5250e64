"""One batch of sequences, its check before training, and the legend of letters in every shape of this project.

Legend: `B` batch, `T` time, `D` feature width, `A` action size, `S` stochastic size, `L` levels,
`H` channels of an SSM (image height beside `C W`), `N` SSM state size, `C H W` image.

Time: step t holds `image[t]`, the `action[t]` that LED to it (zeros at an episode's first step), the `reward[t]`
received with it, `is_first[t]` and `is_terminal[t]`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmkit.checks import check_tensor

FLAGS = ("is_first", "is_terminal", "mask")
REST = {"action": ", A", "reward": "", **dict.fromkeys(FLAGS, "")}
"""What follows (B, T) in the shapes of a batch beside its images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences as a sampler hands them out and `WorldModel` reads them; `Batch.of` makes one of images and actions.

    Raises `ValueError` for what is no tensor, for other shapes than these, flags that are not bool, and tensors on
    different devices; `check_batch` looks at the rest.
    """

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
        check_tensor("Batch.image", self.image)
        if self.image.ndim != 5:
            raise ValueError(f"Batch.image: expected (B, T, C, H, W), got shape {tuple(self.image.shape)}")
        lead = self.image.shape[:2]  # (B, T)
        steps = [(name, getattr(self, name), rest) for name, rest in REST.items()]
        for name, value, rest in (*steps, *((f"extras[{key!r}]", x, ", ...") for key, x in self.extras.items())):
            check_tensor(f"Batch.{name}", value)
            axes = {"": 2, ", A": 3}.get(rest, value.ndim)
            if value.shape[:2] != lead or value.ndim != axes:
                hint = "; take the last axis off by squeeze(-1)" if value.shape == (*lead, 1) else ""
                if name == "action" and value.shape[:2] == (lead[0], lead[1] - 1):
                    hint = "; action[:, t] is what led to image[:, t]: put zeros before the first"
                raise ValueError(
                    f"Batch.{name}: expected (B, T{rest}) = ({lead[0]}, {lead[1]}{rest}) as in image, "
                    f"got {tuple(value.shape)}{hint}"
                )
            if name in FLAGS and value.dtype != torch.bool:
                raise ValueError(f"Batch.{name}: expected torch.bool, got {value.dtype}; write x != 0")
            if name in REST and value.device != self.image.device:
                raise ValueError(
                    f"Batch.{name}: it is on {value.device}, image on {self.image.device}; move one by .to"
                )

    @classmethod
    def of(
        cls,
        image: Any,
        action: Any,
        reward: Any = None,
        is_first: Any = None,
        is_terminal: Any = None,
        mask: Any = None,
        **extras: Any,
    ) -> Batch:
        """A batch of image (B, T, C, H, W) uint8 and action (B, T, A), as tensors, NumPy arrays or nested lists.

        What is left out is filled in: rewards of zero, episodes that begin at column 0 and do not end, no padding.
        Other float types become float32, and so do actions and rewards of any number type. `extras` is ground truth by
        name. It reads tensor values, for which the host has to wait where they are on a GPU.
        Raises `ValueError` as `Batch` and `check_batch` do.
        """
        pixels = _as_tensor("image", image)
        if pixels.ndim != 5:
            hint = "; one row is image[None], rows of grey pictures are image[:, :, None]" if pixels.ndim == 4 else ""
            raise ValueError(f"Batch.image: expected (B, T, C, H, W), got shape {tuple(pixels.shape)}{hint}")
        if pixels.shape[4] <= 4 < min(pixels.shape[2:4]):
            raise ValueError(
                f"Batch.image: expected (B, T, C, H, W), yours looks like (B, T, H, W, C): {tuple(pixels.shape)}; "
                "move the channels first, in NumPy by np.moveaxis(image, -1, 2)"
            )
        if pixels.dtype != torch.uint8:
            scale = "pictures in [0, 1] are (255 * image).round() as uint8"
            hint = scale if pixels.is_floating_point() else "numbers in 0..255 fit into uint8"
            raise ValueError(f"Batch.image: expected torch.uint8 in 0..255, got {pixels.dtype}; {hint}")
        move = _as_tensor("action", action)
        if move.ndim == 2 and not move.is_floating_point():
            raise ValueError(
                f"Batch.action: expected (B, T, A), got numbers of actions {tuple(move.shape)}; one-hot they are "
                "torch.nn.functional.one_hot(action, A)"
            )
        no = torch.zeros(pixels.shape[:2], dtype=torch.bool, device=pixels.device)  # (B, T)
        if is_first is None:
            is_first = no.clone()
            is_first[:, :1] = True
        first = _as_tensor("is_first", is_first)
        batch = cls(
            image=pixels,
            action=move.float(),
            reward=no.float() if reward is None else _as_tensor("reward", reward).float(),
            is_first=first,
            is_terminal=no if is_terminal is None else _as_tensor("is_terminal", is_terminal),
            mask=~no if mask is None else _as_tensor("mask", mask),
            inner_reset=first.ndim == 2 and bool(first[:, 1:].any()),
            extras={name: _as_tensor(name, value) for name, value in extras.items()},
        )
        check_batch(batch)
        return batch

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


def check_type(batch: Any) -> None:
    """Raise `ValueError` unless it is a `Batch`."""
    if not isinstance(batch, Batch):
        raise ValueError(f"batch: expected a wmkit.Batch, got a {type(batch).__name__}; Batch.of makes one")


def check_batch(batch: Batch) -> None:
    """Refuse a batch that would poison training.

    Raises `ValueError` for a wrong dtype, for NaN or infinity, naming the key, the row and the time step, for
    `inner_reset=False` beside an `is_first` that says otherwise, for padding that comes before steps of its episode,
    which would enter them, and where all is padding. Reads tensor values: call it before the batch goes to a device.
    """
    check_type(batch)
    expected = {"image": torch.uint8, "action": torch.float32, "reward": torch.float32}
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
    if not batch.inner_reset and bool(batch.is_first[:, 1:].any()):
        row, before = batch.is_first[:, 1:].nonzero()[0].tolist()
        raise ValueError(
            f"Batch: inner_reset=False, but is_first is True in row {row} at t = {before + 1}; one of the two is wrong"
        )
    enters = batch.mask[:, 1:] & ~batch.mask[:, :-1] & ~batch.is_first[:, 1:]  # (B, T - 1)
    if bool(enters.any()):
        row, t = enters.nonzero()[0].tolist()
        raise ValueError(
            f"Batch: mask is False in row {row} at t = {t} and True after it, so that padding would enter the steps "
            "behind it; pad rows at their ends"
        )
    if not bool(batch.mask.any()):
        raise ValueError("Batch: mask is False everywhere, there is nothing to learn; True marks steps that count")


def _as_tensor(name: str, value: Any) -> Tensor:
    """`value` as a tensor, other floats as float32; raises `ValueError` for what are no numbers."""
    if not isinstance(value, Tensor):
        try:
            array = np.asarray(value)
        except ValueError as error:  # rows of different lengths
            raise ValueError(f"Batch.{name}: expected rows of one length; pad them and give mask ({error})") from error
        if array.dtype.kind not in "biuf":
            raise ValueError(f"Batch.{name}: expected numbers, got a {type(value).__name__} of {array.dtype}")
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        value = torch.from_numpy(np.require(array, requirements=["C", "W"]))  # no strides that PyTorch lacks
    if value.is_complex():
        raise ValueError(f"Batch.{name}: expected real numbers, got {value.dtype}; view_as_real gives both parts")
    return value.float() if value.is_floating_point() else value
