"""The GRU cell against its equation, its learned start, and what `scan` takes out of the loop."""

import torch
import torch.nn.functional as F

from wmkit.backbones import GRU, GRUConfig


def build(input_dim: int = 5, hidden: int = 7) -> GRU:
    backbone = GRU(input_dim, GRUConfig(input_dim=input_dim, hidden=hidden)).double()
    for parameter in backbone.parameters():
        parameter.data.add_(torch.randn_like(parameter) / 5)
    return backbone


def test_a_step_is_the_cell_of_its_docstring() -> None:
    backbone = build()
    x, h = torch.randn(3, 5).double(), torch.randn(3, 7).double()
    joint = torch.cat([backbone.from_input.weight, backbone.from_state.weight], dim=1)
    gates = F.layer_norm(torch.cat([x, h], 1) @ joint.T, (21,), backbone.norm.weight, backbone.norm.bias, 1e-3)
    reset, candidate, update = gates.split(7, dim=1)
    update = 1 / (1 + torch.exp(-(update - 1)))
    expected = update * torch.tanh(reset.sigmoid() * candidate) + (1 - update) * h
    features, state = backbone.step(x, {"h": h})
    torch.testing.assert_close(features, expected)
    assert state["h"] is features


def test_the_start_is_learned_and_zero_at_first() -> None:
    fresh = GRU(5)
    assert not fresh.initial_state(2)["h"].any()
    fresh.initial.data.fill_(0.5)
    torch.testing.assert_close(fresh.initial_state(2)["h"], torch.full((2, 512), 0.5).tanh())


def test_a_cell_at_rest_forgets_slowly() -> None:
    """With gates at zero the update is sigmoid(-1): a quarter of the state is renewed."""
    backbone = GRU(4, GRUConfig(hidden=4))
    backbone.norm.weight.data.zero_()
    features, _ = backbone.step(torch.randn(1, 4), {"h": torch.ones(1, 4)})
    torch.testing.assert_close(features, torch.full((1, 4), 1 - torch.tensor(-1.0).sigmoid().item()))


def test_the_inputs_are_projected_once_per_scan() -> None:
    backbone, calls = build(), []
    backbone.from_input.register_forward_hook(lambda *_: calls.append(1))
    backbone.scan(torch.randn(2, 9, 5).double())
    assert len(calls) == 1


def test_initial_weights_have_the_spread_of_the_joint_matrix() -> None:
    backbone = GRU(300, GRUConfig(hidden=200))
    joint = torch.cat([backbone.from_input.weight, backbone.from_state.weight], dim=1)
    expected = (2 / (500 + 600)) ** 0.5
    assert abs(joint.std().item() / expected - 1) < 0.02
    assert joint.abs().max() <= 2 * expected / 0.87


def test_the_3d_cell_is_that_of_the_paper() -> None:
    config = GRUConfig.for_size("3d")
    parameters = sum(p.numel() for p in GRU(config.input_dim, config).parameters())
    assert parameters == (1000 + 2048) * 6144 + 2 * 6144 + 2048


def test_observing_is_filtering_unless_told_otherwise() -> None:
    assert GRU.default_posterior == "filtering"
