"""What a backbone gives and may declare beside its steps: parameter groups and hooks."""

from typing import Any

import pytest
import torch
from torch import nn

from wmkit.backbones import ParameterGroup


def test_a_parameter_group_reads_a_generator_once_and_keeps_a_tuple() -> None:
    layer = nn.Linear(2, 3)
    group = ParameterGroup("slow", layer.parameters())
    assert list(map(id, group.parameters)) == list(map(id, layer.parameters()))
    assert isinstance(group.parameters, tuple)


@pytest.mark.parametrize(
    ("parameters", "settings", "message"),
    [
        ((), {}, "it has no parameters"),
        ([torch.ones(2)], {}, "expected parameters only, got a Tensor"),
        (["weight"], {}, "expected parameters only, got a str"),
        (nn.Parameter(torch.ones(2)), {}, "expected several parameters, got a Parameter; write"),
        (None, {}, "expected several parameters, got a NoneType"),
        ([nn.Parameter(torch.ones(2))], {"lr": -1e-3}, "lr: expected at least 0, got -0.001"),
        ([nn.Parameter(torch.ones(2))], {"lr": "1e-3"}, "lr: expected a number, got '1e-3'"),
        ([nn.Parameter(torch.ones(2))], {"lr": True}, "lr: expected a number, got True"),
        ([nn.Parameter(torch.ones(2))], {"lr": float("nan")}, "lr: expected at least 0, got nan"),
        ([nn.Parameter(torch.ones(2))], {"weight_decay": -0.1}, "weight_decay: expected at least 0"),
    ],
)
def test_a_parameter_group_refuses_what_would_not_train(
    parameters: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"ParameterGroup 'slow': {message}"):
        ParameterGroup("slow", parameters, **settings)
