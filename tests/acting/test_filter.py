"""A filter reads one observation at a time and knows what `observe` knows of all of them."""

import pytest
import torch

from wmkit import build_world_model, list_backbones
from wmkit.acting import Filter
from wmkit.dynamics.clockwork.config import ClockworkConfig

SHAPE = (3, 16, 16)


@pytest.mark.parametrize("backbone", list_backbones("backbone"))
def test_a_filter_reads_step_by_step_what_observe_reads_at_once(backbone: str) -> None:
    model = build_world_model(backbone, "tiny", SHAPE, 2)
    image = torch.randint(0, 256, (2, 5, *SHAPE), dtype=torch.uint8)
    action, is_first = torch.randn(2, 5, 2), torch.zeros(2, 5, dtype=torch.bool)
    is_first[:, 0] = is_first[1, 3] = True
    with Filter(model, batch_size=2) as read:
        features = [read(image[:, t], action[:, t], is_first[:, t]) for t in range(5)]
        assert not features[0].requires_grad
    assert model.training  # as it was
    torch.testing.assert_close(torch.stack(features, 1), model.eval().observe(image, action, is_first)[0].features)


def test_a_filter_is_rewound_by_its_state_and_draws_latents_from_its_seed() -> None:
    model = build_world_model("gru", "tiny", SHAPE, 2)
    image, action = torch.randint(0, 256, (1, *SHAPE), dtype=torch.uint8), torch.randn(1, 2)
    with Filter(model) as read:
        read(image, action)
        kept = read.state
        once = read(image, action)
        assert not torch.equal(once, read(image, action))
        read.state = kept
        assert torch.equal(once, read(image, action))
    drawn = []
    for seed in (0, 0, 1):
        with Filter(model, seed=seed) as read:
            drawn.append(read(image, action))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_filter_says_where_it_can_be_used() -> None:
    model = build_world_model("gru", "tiny", SHAPE, 2)
    with pytest.raises(ValueError, match="call it within `with Filter"):
        Filter(model)(torch.zeros(1, *SHAPE), torch.zeros(1, 2))
    ahead = build_world_model(ClockworkConfig(windows="smoothing"), "tiny", SHAPE, 2)
    with pytest.raises(ValueError, match="its dynamics read ahead"):
        Filter(ahead)
