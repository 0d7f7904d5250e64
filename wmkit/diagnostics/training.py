"""Training one network on one task from a stream of sequences, and judging it at the training length and beyond."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from wmkit.backbones import Backbone
from wmkit.backbones.base import collected_losses
from wmkit.config import TrainConfig
from wmkit.diagnostics.base import MULTIPLES, NOT_ASKED, Sequences, Task
from wmkit.diagnostics.network import Network
from wmkit.diagnostics.scores import Scores
from wmkit.training.optimiser import StepGuard, build_optimiser, schedule_factor
from wmkit.training.runtime import TRAIN, VALID, step_generator

TEST, FIT = 1001, 1002
"""Streams of sequences beside those of training and validation: judged on, and read by the ridge regression."""
RATE = TrainConfig(lr=3e-3, weight_decay=0.0, warmup=50, schedule="cosine", steps=1000, clip=1.0)
"""The optimiser of every task and backbone alike; groups that a backbone names keep their own rate."""
ADVICE = (
    f"All is float32 at a rate of {RATE.lr:g}: look for a root, a logarithm or a division that has no gradient, or "
    "give these parameters a smaller lr in parameter_groups()."
)
"""What the author of a backbone can do about gradients that are not finite."""
LOOK = 100
"""Steps between two looks whether the task is solved."""
SOLVED = 0.995
"""Accuracy at the longest length, twice in a row, that ends training."""
RIDGE = 1e-6
"""Of the regression: relative to the mean square of a feature."""
ROWS = 128
"""Held-out sequences of each length."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What one training gave."""

    steps: int
    """Optimiser steps taken."""
    solved: bool
    """Whether it ended because the task was solved."""
    seconds: float
    """Of training, of the processor."""
    scores: dict[int, Scores]
    """By multiple of the training length."""
    untrained: dict[int, Scores] | None
    """Of a capacity: before training."""


def train(
    task: Task, make: Callable[[], Backbone], seed: int, steps: int, rows: int, tell: Callable[[int], object]
) -> Trained:
    """Train a network around a backbone of `make` for at most `steps` steps; the same call gives the same numbers.

    Batch k is drawn from (seed, k); the held-out sequences are the same for every backbone and seed. tell: called with
    the steps taken, after every one of them. Raises `ValueError` when no gradient is finite ten times in a row.
    """
    torch.manual_seed(seed)
    network = Network(task, make())
    untrained = judge(network, rows) if task.capacity else None
    config = dataclasses.replace(RATE, steps=steps, warmup=min(RATE.warmup, steps))
    optimiser = build_optimiser(network, config)
    schedule = LambdaLR(optimiser, lambda step: schedule_factor(step, config))
    guard, begun, passed, taken = StepGuard(config.clip, advice=ADVICE), time.process_time(), 0, 0
    while taken < steps and passed < 2:
        batch = task.draw(step_generator(seed, taken, TRAIN), task.rows, task.length)
        with collected_losses() as extra:
            loss = loss_of(task, network(batch.inputs), batch)
            loss = loss + sum(extra().values())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        if guard.step(network, optimiser, f"step {taken} of {task.name}") is not None:
            schedule.step()
            with torch.no_grad():
                network.backbone.after_update()
        taken += 1
        tell(taken)
        if task.classes is not None and taken % LOOK == 0 and taken < steps:
            passed = passed + 1 if _accuracy(network, taken) >= SOLVED else 0
    seconds = time.process_time() - begun
    return Trained(taken, passed == 2, seconds, judge(network, rows), untrained)


def loss_of(task: Task, said: Tensor, truth: Sequences) -> Tensor:
    """Mean over what is asked: cross-entropy of classes in nats, squared error of numbers."""
    if task.classes is not None:
        return F.cross_entropy(said.flatten(0, -2), truth.answers.flatten(), ignore_index=NOT_ASKED)
    asked = ~truth.answers.isnan()
    return (said[asked] - truth.answers[asked]).square().mean()


@torch.no_grad()
def _accuracy(network: Network, step: int) -> float:
    """Of 32 validation sequences of the longest length."""
    task, length = network.task, MULTIPLES[-1] * network.task.length
    truth = task.draw(step_generator(0, step, VALID), 32, length)
    network.eval()
    scores = Scores.of(task, network(truth.inputs), truth)
    network.train()
    judged = [number for number, level in enumerate(scores.levels) if level in task.judged(length)]
    return 1 - float((scores.lost[:, judged].sum(0) / scores.asked[:, judged].sum(0)).mean())


def held_out(task: Task, multiple: int, rows: int) -> Sequences:
    """Those of so many times the training length that every backbone and seed is judged on."""
    return task.held_out(step_generator(0, multiple, TEST), rows, multiple * task.length)


@torch.no_grad()
def judge(network: Network, rows: int) -> dict[int, Scores]:
    """Scores on `rows` held-out sequences of each length, in eval(); capacities are read by a ridge regression."""
    task, found = network.task, {}
    network.eval()
    for multiple in MULTIPLES:
        read = _regression(network, multiple) if task.capacity else network.forward
        truth = held_out(task, multiple, rows)
        said = torch.cat([read(part) for part in torch.split(truth.inputs, 32)])
        found[multiple] = Scores.of(task, said, truth)
    network.train()
    return found


def _regression(network: Network, multiple: int) -> Callable[[Tensor], Tensor]:
    """Numbers read from the features by W = (X^T X + lambda I)^-1 X^T Y, X the features and 1.

    Fitted to other sequences of the same length: what is measured is what the features hold at that length.
    """
    truth = network.task.draw(step_generator(0, multiple, FIT), 256 // multiple, multiple * network.task.length)
    asked = ~truth.answers.isnan().any(-1)  # (B, T)

    def bordered(inputs: Tensor) -> Tensor:
        features = network.features(inputs).double()
        return torch.cat([features, features.new_ones(*features.shape[:2], 1)], dim=2)  # (B, T, D + 1)

    known = bordered(truth.inputs)[asked]  # (N, D + 1)
    square = known.T @ known
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    weights = torch.linalg.solve(square, known.T @ truth.answers[asked].double())  # (D + 1, G)
    return lambda inputs: (bordered(inputs) @ weights).float()
