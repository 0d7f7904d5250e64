"""A network is trained the same way twice, stops when it is done, and is judged by what its features hold."""

import pytest
import torch
from torch import Tensor

from wmkit import Backbone
from wmkit.backbones import GRU, GRUConfig, ParameterGroup
from wmkit.diagnostics import Task, find_tasks, training
from wmkit.diagnostics.backbones import find_subject
from wmkit.diagnostics.network import Network
from wmkit.diagnostics.scores import summarise
from wmkit.diagnostics.training import judge, train
from wmkit.tree import State


def small() -> Backbone:
    return GRU(16, GRUConfig(hidden=16))


def unheard(taken: int) -> None:
    pass


def test_the_last_eight_inputs_have_a_capacity_of_seven(last_inputs: type[Backbone]) -> None:
    """The newest of them is no memory. Before training as after it, and at every length."""
    (task,) = find_tasks(["memory_capacity"])
    torch.manual_seed(0)
    found = judge(Network(task, last_inputs(1)), 32)
    for multiple, scores in found.items():
        score, levels = summarise(task, [scores], multiple * task.length)
        assert score.mean == pytest.approx(7, abs=0.15)
        assert all((level.mean > 0.99) == (delay < 8) for delay, level in levels.items())


def test_the_same_training_gives_the_same_numbers_and_another_seed_others(echo: type[Task]) -> None:
    first, again, other = (train(echo(), small, seed, 6, 8, unheard) for seed in (0, 0, 1))
    assert [scores.to_json() for scores in first.scores.values()] == [s.to_json() for s in again.scores.values()]
    assert [scores.to_json() for scores in first.scores.values()] != [s.to_json() for s in other.scores.values()]
    assert (first.steps, first.solved, first.untrained) == (6, False, None)


def test_training_ends_once_the_task_is_solved(echo: type[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LOOK", 10)
    taken: list[int] = []
    trained = train(echo(), small, 0, 600, 32, taken.append)
    assert trained.solved
    assert trained.steps == len(taken) < 600
    assert {summarise(echo(), [scores], 8)[0].mean for scores in trained.scores.values()} == {1.0}


def test_parameters_that_a_backbone_names_keep_their_rate() -> None:
    (task,) = find_tasks(["parity"])
    subject = find_subject("s4", width=16)
    network = Network(task, subject.make())
    optimiser = training.build_optimiser(network, training.RATE)
    rates = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimiser.param_groups}
    assert rates == {"rest": (3e-3, 0.0), "ssm": (1e-3, 0.0)}


def test_hooks_of_a_backbone_are_called(echo: type[Task]) -> None:
    """A loss of its own moves what no answer depends on, and `after_update` comes after every step."""

    class Hooked(GRU):
        updates = 0

        def __init__(self) -> None:
            super().__init__(16, GRUConfig(hidden=16))
            self.own = torch.nn.Parameter(torch.ones(()))

        def scan(
            self, x: Tensor, state: State | None = None, is_first: Tensor | None = None, return_state: bool = True
        ) -> tuple[Tensor, State | None]:
            self.add_loss("own", self.own.square())
            return super().scan(x, state, is_first, return_state)

        def after_update(self) -> None:
            Hooked.updates += 1

        def parameter_groups(self) -> list[ParameterGroup]:
            return [ParameterGroup("own", (self.own,), lr=0.1)]

    made: list[Hooked] = []

    def make() -> Hooked:
        made.append(Hooked())
        return made[-1]

    train(echo(), make, 0, 5, 2, unheard)
    assert Hooked.updates == 5
    assert made[0].own < 0.95


def test_a_backbone_without_finite_gradients_is_refused_with_a_reason(echo: type[Task]) -> None:
    class Broken(GRU):
        def scan(self, *arguments: object, **options: object) -> tuple[Tensor, None]:
            features, _ = super().scan(*arguments, **options)
            return features * torch.nan, None

    with pytest.raises(ValueError, match=r"10 steps in a row, the last at step 9 of echo\. .* All is float32"):
        train(echo(), lambda: Broken(16, GRUConfig(hidden=16)), 0, 20, 2, unheard)


@pytest.mark.long
@pytest.mark.parametrize("name", ["parity", "s3"])
@pytest.mark.parametrize("backbone", ["gru", "plain_gru"])
def test_gated_units_solve_parity_and_s3_at_four_times_the_length(name: str, backbone: str) -> None:
    (task,) = find_tasks([name])
    trained = train(task, find_subject(backbone).make, 0, task.steps, 128, unheard)
    assert summarise(task, [trained.scores[4]], 4 * task.length)[0].mean > 0.99


@pytest.mark.long
def test_a_window_forgets_the_first_symbol_after_layers_times_m_steps() -> None:
    """Two layers that see 8 positions back: known after 16 steps, at chance after 17 and more."""
    (task,) = find_tasks(["repeat_first"])
    task.length, task.levels, task.rows = 16, tuple(range(1, 64)), 16  # type: ignore[misc]
    subject = find_subject("transformer_xl", ["memory=8"])
    trained = train(task, subject.make, 0, 300, 256, unheard)
    (_, near), (_, far) = (summarise(task, [trained.scores[multiple]], multiple * 16) for multiple in (1, 4))
    assert all(near[delay].mean > 0.95 for delay in range(1, 16))
    assert all(far[delay].mean < 0.4 for delay in range(20, 64))
