"""How answers about digits are judged."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit.evaluation.digits.truth import IDENTITY, POSITION, Digits, judge


def digits(identity, position):
    return Digits(torch.tensor(identity), torch.tensor(position, dtype=torch.float32))


def test_identities_count_as_often_as_they_are_shown_in_any_order():
    truth = digits([[3, 5], [3, 3], [3, 5], [3, 5]], torch.zeros(4, 2, 2).tolist())
    read = digits([[5, 3], [3, 5], [3, 3], [1, 2]], torch.zeros(4, 2, 2).tolist())
    assert judge(read, truth)[IDENTITY].tolist() == [1.0, 0.5, 0.5, 0.0]


def test_positions_are_assigned_for_the_best():
    truth = digits([[1, 2]], [[[10, 10], [20, 20]]])
    read = digits([[1, 2]], [[[20, 24], [13, 10]]])
    assert judge(read, truth)[POSITION].tolist() == [3.5]


def test_whose_position_it_is_does_not_matter():
    truth = digits([[1, 2]], [[[10, 10], [20, 20]]])
    swapped = digits([[2, 1]], [[[10, 10], [20, 20]]])
    assert judge(swapped, truth) == {IDENTITY: torch.ones(1), POSITION: torch.zeros(1)}


@given(st.integers(1, 3), st.integers(0, 2**31))
def test_the_truth_in_another_order_is_exact(number, seed):
    generator = torch.Generator().manual_seed(seed)
    identity = torch.randint(10, (4, 3, number), generator=generator)
    position = 64 * torch.rand(4, 3, number, 2, generator=generator)
    order = torch.randperm(number, generator=generator)
    scores = judge(Digits(identity[..., order], position[..., order, :]), Digits(identity, position))
    assert torch.equal(scores[IDENTITY], torch.ones(4, 3))
    assert float(scores[POSITION].max()) < 1e-4


def test_rows_and_steps_can_be_taken_out():
    truth = digits(torch.arange(8).reshape(2, 2, 2).tolist(), torch.zeros(2, 2, 2, 2).tolist())
    assert truth.number == 2
    assert truth[:, 1:].identity.tolist() == [[[2, 3]], [[6, 7]]]
