"""Distributions over classes and places: what is put in is read out."""

import pytest
import torch

from wmkit.evaluation.digits.beliefs import CELLS, GRID, chart, joint_chart, read_chart
from wmkit.evaluation.digits.truth import IDENTITY, POSITION, Digits, judge


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
