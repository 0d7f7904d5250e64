"""What a run may spend: optimiser steps, or minutes of training."""

from __future__ import annotations

import time

from wmkit.config import TrainConfig


class Budget:
    """Counts the seconds of training and says which share of the budget is spent.

    On one thread of a CPU that also makes the data (`workers` 0) a second is one of processor time: what a step would
    take on a core of its own, however busy the machine is. Else it is one of wall time.

    With `train.minutes` the clock decides, without it the steps do. A second counts while a batch is awaited or a step
    is taken; validations, checkpoints and the time before a resume do not.
    """

    def __init__(self, config: TrainConfig, workers: int) -> None:
        self.steps = config.steps if config.minutes is None else None
        """Steps that end the run; None when the clock does."""
        self.limit = None if config.minutes is None else 60.0 * config.minutes
        """Seconds that end the run; None when the steps do."""
        self.seconds = 0.0
        """Seconds of training so far, those before a resume included."""
        alone = config.device == "cpu" and config.threads == 1 and workers == 0
        self.clock = time.process_time if alone else time.perf_counter

    def share(self, step: int) -> float:
        """Share in [0, 1] that is spent after `step` steps."""
        spent = step / self.steps if self.steps else self.seconds / (self.limit or 1.0)
        return min(1.0, spent)

    def spent(self, step: int) -> bool:
        """Whether nothing is left after `step` steps."""
        return self.share(step) >= 1.0

    def state_dict(self) -> float:
        return self.seconds

    def load_state_dict(self, state: float) -> None:
        self.seconds = state
