"""The plain GRU against `torch.nn.GRUCell`."""

import torch

from wmkit.backbones import PlainGRU, PlainGRUConfig


def test_a_step_equals_torchs_cell() -> None:
    gru = PlainGRU(5, PlainGRUConfig(input_dim=5, hidden=7)).double()
    cell = torch.nn.GRUCell(5, 7).double()
    with torch.no_grad():
        for bias in (gru.from_input.bias, gru.from_state.bias):
            bias.normal_()
        cell.weight_ih.copy_(gru.from_input.weight)
        cell.weight_hh.copy_(gru.from_state.weight)
        cell.bias_ih.copy_(gru.from_input.bias)
        cell.bias_hh.copy_(gru.from_state.bias)
    x, h = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    torch.testing.assert_close(gru.step(x, {"h": h})[0], cell(x, h))


def test_the_state_is_as_wide_as_the_input_unless_said_otherwise() -> None:
    assert PlainGRU(6).feature_dim == 6
    assert PlainGRU(6, PlainGRUConfig(input_dim=6, hidden=9)).feature_dim == 9
