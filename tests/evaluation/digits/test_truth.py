"""How answers about digits are judged; what is put into distributions over classes and places is read out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit.evaluation.digits.truth import CELLS, GRID, IDENTITY, POSITION, Digits, chart, joint_chart, judge, read_chart


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


def scattered(number, side, rows=200):
    """Digits anywhere between the walls."""
    margin = side * 14 / 64
    return Digits(torch.randint(10, (rows, number)), margin + (side - 2 * margin) * torch.rand(rows, number, 2))


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("number", [1, 2])
def test_charts_are_distributions_and_agree(number, side):
    truth = scattered(number, side)
    classes, places = chart(truth, side)
    joint = joint_chart(truth, side)
    assert (classes.shape, places.shape, joint.shape) == ((200, 10), (200, GRID**2), (200, 10, GRID**2))
    for one in (classes, places, joint.flatten(1)):
        assert float(one.min()) >= 0
        torch.testing.assert_close(one.sum(-1), torch.ones(200))
    torch.testing.assert_close(joint.sum(-1), classes)
    torch.testing.assert_close(joint.sum(-2), places)


@pytest.mark.parametrize("side", [32, 64])
def test_a_single_digit_is_read_exactly(side):
    truth = scattered(1, side)
    scores = judge(read_chart(*chart(truth, side), number=1, side=side), truth)
    assert float(scores[IDENTITY].min()) == 1
    assert float(scores[POSITION].max()) < 1e-3


def test_two_digits_are_read_exactly_where_they_are_apart():
    truth = scattered(2, 64)
    scores = judge(read_chart(*chart(truth, 64), number=2, side=64), truth)
    assert float(scores[IDENTITY].min()) == 1
    apart = (truth.position[:, 0] - truth.position[:, 1]).abs().amax(-1) > 4 * 64 / CELLS
    assert int(apart.sum()) > 50
    assert float(scores[POSITION][apart].max()) < 1e-3
    assert float(scores[POSITION].max()) < 3 * 64 / CELLS


def test_the_same_digit_twice_at_one_place_is_read_twice():
    truth = Digits(torch.tensor([[7, 7]]), torch.full((1, 2, 2), 32.0))
    read = read_chart(*chart(truth, 64), number=2, side=64)
    assert read.identity.tolist() == [[7, 7]]
    torch.testing.assert_close(read.position, truth.position)


def test_too_strong_a_belief_in_one_digit_does_not_make_it_two():
    one, other = (Digits(torch.tensor([[k]]), torch.full((1, 1, 2), 20.0 + 24 * k)) for k in (0, 1))
    beliefs = [0.7 * a + 0.3 * b for a, b in zip(chart(one, 64), chart(other, 64), strict=True)]
    read = read_chart(*beliefs, number=2, side=64)
    assert sorted(read.identity[0].tolist()) == [0, 1]
    torch.testing.assert_close(read.position[0], torch.tensor([[20.0, 20.0], [44.0, 44.0]]))
