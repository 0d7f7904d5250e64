"""What encoders and decoders share: heads, and how pixels come in and go out."""

import math

import torch
from torch.nn import functional as F

from wmkit.networks import Head, to_unit
from wmkit.networks.base import stretched_sigmoid


def test_a_head_of_split_inputs_is_that_of_the_whole_with_all_gradients() -> None:
    head = Head(7, 5, 3).double()
    a, b = (torch.randn(2, 4, width, dtype=torch.float64, requires_grad=True) for width in (4, 3))
    of_a, of_b = head.split(4, 3)
    outputs = head(torch.cat([a, b], -1)), head.of_sum(F.linear(a, of_a) + F.linear(b, of_b))
    torch.testing.assert_close(*outputs)
    sources = [a, b, *head.parameters()]
    whole, parts = (torch.autograd.grad(y.square().sum(), sources) for y in outputs)
    torch.testing.assert_close(whole, parts)


def test_bytes_become_numbers_from_zero_to_one_and_floats_stay() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(to_unit(image), torch.tensor([0.0, 0.2, 1.0]))
    assert torch.equal(to_unit(torch.tensor([0.2, 1.5])), torch.tensor([0.2, 1.5]))


def test_a_stretched_sigmoid_is_bounded_and_has_a_slope_at_black_and_at_white() -> None:
    x = torch.tensor([-50.0, 0.0, math.log(121), 50.0], dtype=torch.float64, requires_grad=True)
    y = stretched_sigmoid(x)
    torch.testing.assert_close(y, torch.tensor([-0.1, 0.0, 1.0, 1.1], dtype=torch.float64))
    [slope] = torch.autograd.grad(y.sum(), [x])
    torch.testing.assert_close(slope[1:3], torch.full((2,), 1.2 * 11 / 144, dtype=torch.float64))
