"""What a backbone costs: bytes of state, time of a step, frames that it trains on in a second."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from wmkit import tree
from wmkit.backbones import Backbone
from wmkit.machine import processor, seconds_of
from wmkit.tree import State

BATCHES = (1, 64)
"""Rows of a step that is timed."""
TRIES = 7
ROWS, LENGTH = 16, 64
"""Of the sequences that training is timed on."""


@dataclasses.dataclass(frozen=True)
class Costs:
    """Of a backbone alone, without its maps in and out; seconds are of the processor."""

    parameters: int
    state_bytes: int
    """Of one row."""
    microseconds_per_step: dict[str, float]
    """By rows: one `step` inside `prepared()`, without gradients; the median of several tries."""
    frames_per_second: float
    """Of forward and backward pass on 16 sequences of 64 steps."""
    threads: int
    machine: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def measure_costs(backbone: Backbone, tries: int = TRIES) -> Costs:
    """Time steps and training of a backbone with as many threads as PyTorch has."""
    state = backbone.initial_state(1)
    step_times = {}
    for rows in BATCHES:
        with torch.no_grad(), backbone.prepared():
            x, last = torch.zeros(rows, backbone.input_dim), [backbone.initial_state(rows)]

            def step(x: Tensor = x, last: list[State] = last) -> None:
                last[0] = backbone.step(x, last[0])[1]

            step_times[str(rows)] = 1e6 * seconds_of(step, tries, 20)
    x = torch.randn(ROWS, LENGTH, backbone.input_dim, generator=torch.Generator().manual_seed(0))

    def learn() -> None:
        torch.autograd.backward(backbone.scan(x, return_state=False)[0].square().mean())

    seconds = seconds_of(learn, tries, 2)
    return Costs(
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        state_bytes=sum(leaf.nbytes for leaf in tree.leaves(state)),
        microseconds_per_step=step_times,
        frames_per_second=ROWS * LENGTH / seconds,
        threads=torch.get_num_threads(),
        machine=processor(),
    )
