"""Episodes and an evaluation that the tests of this folder share."""

import pytest
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.build import build_world_model
from wmkit.evaluation.errors import Errors
from wmkit.evaluation.old_predictors import COPY_LAST, GENERATION, MEAN_IMAGE, MISLED, OTHER_FRAME, RECONSTRUCTION
from wmkit.evaluation.report import Evaluation
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


@pytest.fixture
def evaluation() -> Evaluation:
    """Four episodes, context 6, horizon 50, each predictor with a constant error of its own."""

    def constant(value: float, steps: int) -> Errors:
        return Errors(torch.full((4, steps), value))

    levels = {RECONSTRUCTION: 30.0, GENERATION: 60, MISLED: 90, MEAN_IMAGE: 100, OTHER_FRAME: 200, COPY_LAST: 150}
    return Evaluation(
        context=6,
        pixels=192,
        on_context={name: constant(levels[name], 5) for name in (RECONSTRUCTION, MEAN_IMAGE)},
        on_query={name: constant(value, 50) for name, value in levels.items()},
        mean_image_of="training frames",
    )
