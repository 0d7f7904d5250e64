"""Linear layers inside a loop: the same outputs and gradients as `F.linear` at every step."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wmkit import unrolled
from wmkit.unrolled import UnrolledLinear

B, N, D = 3, 7, 4


def recur(step, h: Tensor) -> Tensor:
    """h_j = tanh(step(h_{j-1})), all of them: a weight that meets itself again."""
    hs = []
    for _ in range(N):
        h = torch.tanh(step(h))
        hs.append(h)
    return torch.stack(hs)


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("rows", [1, 7, 512])
@pytest.mark.parametrize("shape", [(N, B, D), (N, 1, D), (D,)])
def test_a_recurrence_has_the_outputs_and_gradients_of_plain_layers(
    shape: tuple[int, ...], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unrolled, "ROWS", rows)
    weight, shares, start = leaf(D, D), leaf(*shape), leaf(B, D)
    each = iter(shares.expand(N, B, D).unbind(0))
    want = recur(lambda h: F.linear(h, weight) + next(each), start)
    got = recur(UnrolledLinear(weight, shares, (N, B)), start)
    torch.testing.assert_close(got, want)
    sources = (weight, shares, start)
    for mine, theirs in zip(*(torch.autograd.grad(y.square().sum(), sources) for y in (got, want)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_steps_whose_outputs_nobody_uses_add_nothing() -> None:
    weight, shares = leaf(D, D), leaf(D)
    layer, x = UnrolledLinear(weight, shares, (2, B)), torch.randn(2, B, D, dtype=torch.float64)
    y, _ = (layer(step) for step in x)
    (gradient,) = torch.autograd.grad(y.sum(), weight)
    torch.testing.assert_close(gradient, x[0].sum(0).expand(D, D))


def test_a_loop_of_no_steps_is_fine() -> None:
    UnrolledLinear(leaf(D, D), leaf(D), (0, B))


def test_under_autocast_products_are_bfloat16_and_gradients_keep_the_weights_precision() -> None:
    weight, shares = torch.randn(D, D, requires_grad=True), torch.zeros(D)
    with torch.autocast("cpu", torch.bfloat16):
        y = UnrolledLinear(weight, shares, (1, B))(torch.randn(B, D))
    assert y.dtype == torch.bfloat16
    assert torch.autograd.grad(y.float().sum(), weight)[0].dtype == torch.float32
