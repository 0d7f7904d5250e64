"""What a run may spend: optimiser steps, or minutes of training."""

from __future__ import annotations

from wmkit.config import TrainConfig


class Budget:
    """Counts the seconds of training and says which share of the budget is spent.

    With `train.minutes` the clock decides, without it the steps do. A second counts while a batch is awaited or a step
    is taken; validations, checkpoints and the time before a resume do not.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.steps = config.steps if config.minutes is None else None
        """Steps that end the run; None when the clock does."""
        self.limit = None if config.minutes is None else 60.0 * config.minutes
        """Seconds that end the run; None when the steps do."""
        self.seconds = 0.0
        """Seconds of training so far, those before a resume included."""

    def share(self, step: int) -> float:
        """Share in [0, 1] that is spent after `step` steps."""
        spent = step / self.steps if self.steps else self.seconds / (self.limit or 1.0)
        return min(1.0, spent)

    def spent(self, step: int) -> bool:
        """Whether nothing is left after `step` steps."""
        return self.share(step) >= 1.0
