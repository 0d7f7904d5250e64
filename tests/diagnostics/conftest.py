"""A task and two backbones of one's own that the tests of this folder share."""

import pytest
import torch
from torch import Tensor

from wmkit import Backbone
from wmkit.diagnostics import Sequences, Task, base, delayed, register_task
from wmkit.tree import State


class LastInputs(Backbone):
    """The last 8 inputs, side by side: all that it remembers, exactly."""

    slots = 8

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, self.slots * input_dim
        self.scale = torch.nn.Parameter(torch.ones(()))

    def initial_state(self, batch_size: int) -> State:
        return self.scale.new_zeros(batch_size, self.feature_dim)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        state = torch.cat([x, state[:, : -self.input_dim]], dim=1)
        return self.scale * state, state


@pytest.fixture
def last_inputs() -> type[Backbone]:
    return LastInputs


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> type[Task]:
    """`echo`, the symbol of one step ago: a task of one's own, forgotten after the test."""
    monkeypatch.setattr(base._tasks, "by_name", base.all_tasks())

    @register_task("echo")
    class Echo(Task):
        title, level_name = "echo of the last symbol", "delay"
        symbols, classes = (4,), 4
        length, levels, rows, steps = 8, (1,), 8, 12

        def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
            shown = torch.randint(4, (rows, length, 1), generator=generator)
            return Sequences(shown, delayed(shown, 1), torch.ones_like(shown))

    return Echo
