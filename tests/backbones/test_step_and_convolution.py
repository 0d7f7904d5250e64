"""A step of `s4` and `s4d` is the convolution's recurrence, whatever has happened to the parameters in between."""

import pytest
import torch

from wmkit import tree
from wmkit.backbones import S4, S4D, Backbone, S4Config, S4DConfig

TRAINED = 24
"""Steps of the sequences that were trained on."""

KINDS = pytest.mark.parametrize(("kind", "config"), [(S4, S4Config), (S4D, S4DConfig)], ids=["s4", "s4d"])


def build(kind, config):
    return kind(12, config(input_dim=12, layers=1, feedforward=24))


def train(backbone, steps=3):
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=1e-2)
    for _ in range(steps):
        x = torch.randn(2, TRAINED, 12, dtype=backbone.norm.weight.dtype)
        (backbone.scan(x, return_state=False)[0] - 1).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()


def disagreement(backbone, times=1):
    """Relative L2 difference of the training path's convolution and of steps as in imagination."""
    x = torch.randn(2, times * TRAINED, 12, dtype=backbone.norm.weight.dtype)
    convolved, state = backbone.scan(x, return_state=False)
    assert state is None
    with torch.no_grad():
        stepped, _ = Backbone.scan(backbone, x)
    return float((convolved.detach() - stepped).norm() / stepped.norm())


@pytest.mark.reported(
    "numbers",
    "s4#52, #115, mamba#683, fla#285",
    "the convolution of training against the steps of imagination, after training, at four times its length",
    "differ by at most 5e-5 of their norm",
)
@KINDS
def test_they_agree_after_training_at_one_to_four_times_the_trained_length(kind, config):
    backbone = build(kind, config)
    train(backbone)
    assert max(disagreement(backbone, times) for times in (1, 2, 3, 4)) <= 5e-5


@KINDS
def test_they_agree_after_loading_and_in_another_precision(kind, config):
    backbone, other = build(kind, config), build(kind, config)
    train(other)
    assert disagreement(backbone) <= 5e-5
    backbone.load_state_dict(other.state_dict())
    assert disagreement(backbone, times=2) <= 5e-5
    assert disagreement(backbone.to(torch.float64), times=2) <= 1e-10
    assert disagreement(backbone.to(torch.float32), times=2) <= 5e-5


@KINDS
def test_an_optimiser_step_in_the_middle_of_an_imagination_counts_from_the_next_step_on(kind, config):
    backbone, x = build(kind, config), torch.randn(2, 2 * TRAINED, 12)
    before, after = x.split(TRAINED, dim=1)
    with torch.no_grad():
        early, state = Backbone.scan(backbone, before)
    old = backbone.scan(before, return_state=False)[0].detach()
    train(backbone, steps=1)
    with torch.no_grad():
        late, last = Backbone.scan(backbone, after, state)
    fresh = build(kind, config)
    fresh.load_state_dict(backbone.state_dict())
    expected, expected_last = fresh.scan(after, tree.detach(state))
    for found, exact in ((early, old), (late, expected), *zip(last, expected_last, strict=True)):
        assert (found - exact).norm() <= 5e-5 * exact.norm()
