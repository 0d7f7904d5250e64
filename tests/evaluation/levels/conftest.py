"""A small hierarchy and clips for it."""

import pytest
import torch

from wmkit.batch import Batch
from wmkit.build import build_world_model
from wmkit.dynamics import ClockworkConfig
from wmkit.world_model import WorldModel


def _model(levels: int = 3, **options) -> WorldModel:
    config = ClockworkConfig(levels=levels, factor=2, core_size="tiny", width=8, level_units=8, **options)
    model = {"latent": "gaussian", "latent_size": 3, "units": 8, "depth": 2, "kl_balance": None}
    return build_world_model(config, "tiny", (1, 8, 8), 0, **model, image_loss="gaussian", first_step="model")


@pytest.fixture
def model() -> WorldModel:
    """Three levels that tick every 1, 2, 4 frames, their windows causal."""
    return _model()


@pytest.fixture(params=["causal", "smoothing"])
def either(request) -> WorldModel:
    """The same with both kinds of windows."""
    return _model(windows=request.param)


@pytest.fixture
def clips() -> Batch:
    """Five clips of 12 random frames."""
    zeros = torch.zeros(5, 12)
    is_first = zeros.bool()
    is_first[:, 0] = True
    return Batch(
        image=torch.randint(256, (5, 12, 1, 8, 8), dtype=torch.uint8),
        action=torch.zeros(5, 12, 0),
        reward=zeros,
        is_first=is_first,
        is_terminal=zeros.bool(),
        mask=~zeros.bool(),
        inner_reset=False,
    )
