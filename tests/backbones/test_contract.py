"""Every registered backbone keeps the ten laws, in single and in double precision."""

import os

import pytest
import torch

from wmkit import Backbone, list_backbones
from wmkit.registry import get_entry
from wmkit.testing import check_backbone

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
pytestmark = pytest.mark.no_cover  # a quarter of the time, for lines that other tests reach


@pytest.mark.reported(
    "numbers",
    "s4#52, #115, mamba#683, fla#285",
    "a scan against steps, in pieces, with resets and from carried states, for every backbone",
    "the same outputs, last states and gradients within rounding",
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", list_backbones("backbone"))
def test_a_registered_backbone_keeps_the_contract(name: str, dtype: torch.dtype) -> None:
    entry = get_entry(name)
    config = entry.config.for_size("tiny")

    def build() -> Backbone:
        return entry.cls(config.input_dim, config)

    # In double precision those of scans, pieces and states, where single precision inside would show.
    laws = None if LONG or dtype == torch.float32 else (1, 2, 8)
    check_backbone(build().to(dtype), laws=laws, rebuild=build, longest=130, quick=not LONG)


@pytest.mark.parametrize("name", list_backbones("backbone"))
def test_a_registered_backbone_is_built_the_same_under_one_seed(name: str) -> None:
    entry = get_entry(name)
    config = entry.config.for_size("tiny")
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(entry.cls(config.input_dim, config).state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("name", list_backbones("backbone"))
def test_a_registered_backbone_has_numbers_for_every_size(name: str) -> None:
    entry = get_entry(name)
    for size in ("tiny", "small", "2d", "3d"):
        assert isinstance(entry.config.for_size(size), entry.config)
    config = entry.config.for_size("small")
    assert entry.cls(config.input_dim, config).input_dim == config.input_dim
