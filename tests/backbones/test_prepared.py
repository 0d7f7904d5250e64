"""A world model computes the tables of its backbone once per call, or once per `prepared` block."""

import pytest
import torch

from wmkit import build_world_model
from wmkit.backbones import s4


@pytest.mark.parametrize("posterior", ["factorized", "filtering"])
def test_tables_for_steps_are_made_once_per_call_and_once_per_block(posterior, monkeypatch):
    made = []
    make = s4.prepare_step
    monkeypatch.setattr(s4, "prepare_step", lambda *xs, **options: made.append(1) or make(*xs, **options))
    model = build_world_model("s4", size="tiny", image_shape=(3, 32, 32), action_dim=2, posterior=posterior).eval()
    image, action = torch.zeros(1, 5, 3, 32, 32, dtype=torch.uint8), torch.randn(1, 5, 2)
    layers = 2
    with torch.no_grad():
        _, state = model.observe(image, action)
        assert len(made) == (layers if posterior == "filtering" else 0)
        made.clear()
        alone = [model.imagine(action, state).features for _ in range(2)]
        assert len(made) == 2 * layers
        made.clear()
        with model.prepared():
            together = [model.imagine(action, state).features for _ in range(2)]
        assert len(made) == layers
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
