"""Episodes and a model that the tests of this folder share."""

import pytest
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.build import build_world_model
from wmkit.world_model import WorldModel


def _batch(image: Tensor, action_dim: int = 3) -> Batch:
    rows, length = image.shape[:2]
    action = torch.nn.functional.one_hot(torch.randint(action_dim, (rows, length)), action_dim).float()
    action[:, 0] = 0
    is_first = torch.zeros(rows, length, dtype=torch.bool)
    is_first[:, 0] = True
    return Batch(
        image=image,
        action=action,
        reward=torch.zeros(rows, length),
        is_first=is_first,
        is_terminal=torch.zeros_like(is_first),
        mask=torch.ones_like(is_first),
        inner_reset=False,
    )


@pytest.fixture
def batch() -> Batch:
    """Five random episodes of 14 steps, 8 x 8 pixels."""
    return _batch(torch.randint(256, (5, 14, 3, 8, 8), dtype=torch.uint8))


@pytest.fixture
def model() -> WorldModel:
    return build_world_model("gru", "tiny", image_shape=(3, 8, 8), action_dim=3)
