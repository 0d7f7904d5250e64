"""What a checkpoint holds beside the weights: one dict of objects that save and restore both walk.

Whatever decides the rest of a run is in that dict, under a name that stays: checkpoints of other versions are read by
these names. Each value that `state_dict` returns is of tensors and plain Python values, which is all that
`torch.load(weights_only=True)` reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from wmkit import tree
from wmkit.tree import State

LATER = frozenset({"seconds"})
"""Names that the first checkpoints did not have: such a run counts on from what a new one starts with."""


class Stateful(Protocol):
    """What can be saved and go on later, as optimisers, samplers and schedules can."""

    def state_dict(self) -> Any:
        """What `load_state_dict` needs; under `torchrun` every process calls it, in the same order."""

    def load_state_dict(self, state: Any, /) -> object:
        """Go on from what `state_dict` returned."""


def save_states(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """The state of every part."""
    return {name: part.state_dict() for name, part in parts.items()}


def restore_states(parts: Mapping[str, Stateful], saved: Mapping[str, Any], step: int) -> None:
    """Have every part go on from its state; raises `ValueError` where the checkpoint of `step` lacks one."""
    if missing := sorted(parts.keys() - saved.keys() - LATER):
        raise ValueError(
            f"The checkpoint of step {step} was written by another version of wmkit: it lacks {', '.join(missing)}. "
            "Continue it with the version that versions.json in its run folder names, or start another run; "
            "`wmkit evaluate` and `wmkit.load` read its weights all the same."
        )
    for name, part in parts.items():
        if name in saved:
            part.load_state_dict(saved[name])


class CarriedState:
    """The state from which rows that persist go on at the next batch; None where they start afresh."""

    def __init__(self, accelerator: Accelerator, batch_size: int) -> None:
        self.accelerator, self.batch_size = accelerator, batch_size
        self.value: State | None = None
        """Of this process's rows."""

    def state_dict(self) -> State | None:
        """Rows of all processes, in the order of the global batch."""
        return None if self.value is None else self.accelerator.gather(self.value)

    def load_state_dict(self, state: State | None) -> None:
        """Take this process's rows of a global state, to its device."""
        if state is None:
            self.value = None
            return
        share = self.batch_size // self.accelerator.num_processes
        rows = slice(self.accelerator.process_index * share, (self.accelerator.process_index + 1) * share)
        self.value = tree.map_tree(lambda leaf: leaf[rows].to(self.accelerator.device), state)


class BestLoss:
    """The lowest validation loss so far, nats per observation."""

    def __init__(self) -> None:
        self.value = math.inf

    def improves(self, loss: float) -> bool:
        """Whether `loss` is lower than all before it, which it then joins."""
        improved = loss < self.value
        self.value = min(self.value, loss)
        return improved

    def state_dict(self) -> float:
        return self.value

    def load_state_dict(self, state: float) -> None:
        self.value = state


class GlobalRandom:
    """The state of torch's global generator on the CPU, from which a user's module may draw."""

    def state_dict(self) -> Tensor:
        return torch.get_rng_state()

    def load_state_dict(self, state: Tensor) -> None:
        torch.set_rng_state(state)
