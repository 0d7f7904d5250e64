"""The learning rate is chosen on validation, over seeds that compare, and failures count against it."""

import pytest

from wmkit.comparison.cell import Cell, Status
from wmkit.comparison.choice import Choice, Spread, choose
from wmkit.comparison.result import CellResult, Validation


def result(
    lr: float, seed: int = 0, *, loss: float = 1.0, accuracy: float | None = None, status: Status = Status.DONE
) -> CellResult:
    validations = (Validation(1, 0.1, 99.0, None), Validation(2, 0.2, loss, accuracy))
    return CellResult(Cell("s4", "world", lr, seed), status, validations=validations)


def lr_of(choice: Choice | None) -> float | None:
    return choice.lr if choice else None


def test_the_lowest_last_loss_is_chosen_where_no_reward_is_predicted() -> None:
    choice = choose([result(0.1, loss=3.0), result(0.2, loss=2.0)])
    assert choice is not None
    assert (choice.lr, choice.measure, choice.scores) == (0.2, "validation loss", {0.1: 3.0, 0.2: 2.0})


def test_accuracy_is_chosen_by_before_the_loss_which_breaks_ties() -> None:
    better, worse = result(0.1, loss=9.0, accuracy=0.9), result(0.2, loss=1.0, accuracy=0.8)
    tied = result(0.3, loss=8.0, accuracy=0.9)
    assert [lr_of(choose(cells)) for cells in ([better, worse], [better, worse, tied])] == [0.1, 0.3]


@pytest.mark.parametrize(("rewards", "scores"), [(True, {0.1: 0.8, 0.2: 0.7}), (False, {0.1: 3.0, 0.2: 5.0})])
def test_the_mean_over_seeds_counts_and_not_the_best_of_them(rewards: bool, scores: dict[float, float]) -> None:
    seeds = range(3)
    steady = [result(0.1, seed, loss=3.0, accuracy=0.8 if rewards else None) for seed in seeds]
    lucky = [result(0.2, seed, loss=1 + 4 * seed, accuracy=0.9 - 0.2 * seed if rewards else None) for seed in seeds]
    choice = choose([*lucky, *steady])
    assert choice is not None
    assert (choice.lr, choice.scores) == (0.1, pytest.approx(scores))


def test_only_seeds_that_every_rate_has_finished_are_compared() -> None:
    lucky = result(0.1, seed=1, loss=0.1)
    choice = choose([result(0.1, loss=3.0), lucky, result(0.2, loss=2.0), result(0.2, 1, status=Status.UNFINISHED)])
    assert choice is not None
    assert (choice.lr, choice.seeds) == (0.2, (0,))


def test_rates_without_a_common_seed_are_compared_by_what_there_is() -> None:
    choice = choose([result(0.1, seed=0, loss=3.0), result(0.2, seed=1, loss=2.0)])
    assert choice is not None
    assert (choice.lr, choice.seeds) == (0.2, (0, 1))


@pytest.mark.parametrize("all_failed", [False, True])
def test_a_rate_with_a_failed_cell_is_out_unless_all_have_one(all_failed: bool) -> None:
    cells = [result(0.1, loss=1.0), result(0.1, 1, status=Status.FAILED), result(0.2, loss=2.0)]
    choice = choose([*cells, *([result(0.2, 1, status=Status.FAILED)] if all_failed else [])])
    assert choice is not None
    assert choice.lr == (0.1 if all_failed else 0.2)


def test_nothing_is_chosen_before_a_cell_is_done() -> None:
    assert choose([result(0.1, status=Status.UNFINISHED), result(0.2, status=Status.FAILED)]) is None


def test_a_spread_leaves_out_what_is_not_there() -> None:
    assert Spread.of([1.0, None, 3.0]) == Spread(2.0, 1.0, 3.0, 2)
    assert Spread.of([None]) is None
