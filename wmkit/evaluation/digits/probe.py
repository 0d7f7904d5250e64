"""What reads digits from frames, or from features of a model: networks that give beliefs, and the fit."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from wmkit.evaluation.digits.beliefs import read_chart
from wmkit.evaluation.digits.truth import Digits

ROWS_AT_ONCE = 1024
"""Rows that a network reads at a time: bounds memory."""

Example = tuple[Tensor, Digits]
"""What is read (N, ...), and the truth of each row."""


class Reader(nn.Module, ABC):
    """A network from frames or features to beliefs about digits."""

    @abstractmethod
    def beliefs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, ...) -> distributions over classes (N, 10) and over places (N, 100); see `chart`."""

    @abstractmethod
    def loss(self, x: Tensor, truth: Digits, side: int) -> Tensor:
        """() cross-entropy between the true distributions and the beliefs, nats per row."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted reader: tells the K = `number` digits of whatever it was fitted on."""

    reader: Reader
    number: int
    side: int
    """Of the pictures in which positions are told, in pixels."""

    @torch.inference_mode()
    def read(self, x: Tensor) -> Digits:
        """The digits of x (B, T, ...): identities (B, T, K), positions (B, T, K, 2), on the CPU."""
        device = next(self.reader.parameters()).device
        parts = [self.reader.beliefs(rows.to(device)) for rows in torch.split(x.flatten(0, 1), ROWS_AT_ONCE)]
        classes, places = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        found = read_chart(classes, places, self.number, self.side)
        return Digits(*(y.reshape(*x.shape[:2], *y.shape[1:]) for y in (found.identity, found.position)))


def fit(reader: Reader, examples: Iterable[Example], side: int, *, steps: int, rate: float) -> Probe:
    """Fit a reader by `steps` of Adam, one per example, at a learning rate that rises to `rate` and falls to 0."""
    optimiser = torch.optim.Adam(reader.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    number = 0
    for _, (x, truth) in zip(range(steps), examples, strict=False):
        loss = reader.loss(x, truth, side)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        number = truth.number
    return Probe(reader.eval(), number, side)
