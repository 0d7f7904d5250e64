"""Which digits move in the picture, and where? The digits are in no order; see `wmkit.evaluation.digits.truth`."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from wmkit.data import Episode
from wmkit.evaluation.digits.truth import (
    CLASSES,
    IDENTITY,
    PLACES,
    POSITION,
    Digits,
    chart,
    judge,
    read_chart,
)
from wmkit.probing.base import Array, Probe, register_probe


class _DigitProbe(Probe):
    """The target of a step is all of it, as numbers: K identities, K positions, the picture's side."""

    keys = ("digit_identity", "digit_pos")

    def target(self, episode: Episode) -> Array:
        position = episode["digit_pos"].astype(np.float32)  # (T, K, 2)
        identity = np.broadcast_to(episode["digit_identity"], position.shape[:2]).astype(np.float32)
        side = np.full((len(position), 1), episode["image"].shape[1], np.float32)
        return np.concatenate([identity, position.reshape(len(position), -1), side], axis=1)


@register_probe("digit")
class Digit(_DigitProbe):
    """Share of the digits that are named; a distribution over the ten classes is fitted."""

    width = CLASSES
    label = "digits named right"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        truth, side = _truth(target)
        return -(chart(truth, side)[0] * output.log_softmax(-1)).sum(-1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return _judged(output, torch.zeros(len(output), PLACES, device=output.device), target, IDENTITY)


@register_probe("digit_position")
class DigitPosition(_DigitProbe):
    """Distance in pixels to the digits; a distribution over a hundred places is fitted."""

    width = PLACES
    unit = "pixels"
    better: ClassVar[Literal["lower", "higher"]] = "lower"
    label = "distance to the digits"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        truth, side = _truth(target)
        return -(chart(truth, side)[1] * output.log_softmax(-1)).sum(-1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return _judged(torch.zeros(len(output), CLASSES, device=output.device), output, target, POSITION)


def _truth(target: Tensor) -> tuple[Digits, int]:
    """The digits of targets (N, 3 K + 1), and the side of the picture in pixels."""
    number = target.shape[-1] // 3
    position = target[..., number:-1].reshape(*target.shape[:-1], number, 2)
    return Digits(target[..., :number].long(), position), int(target[0, -1])


def _judged(classes: Tensor, places: Tensor, target: Tensor, what: str) -> Tensor:
    truth, side = _truth(target)
    return judge(read_chart(classes.softmax(-1), places.softmax(-1), truth.number, side), truth)[what]
