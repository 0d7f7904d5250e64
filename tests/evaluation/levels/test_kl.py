"""KL per level: the loss's own terms, in nats and bits."""

import math

import pytest
import torch

from wmkit.build import build_world_model
from wmkit.evaluation.levels.kl import LevelKL, level_kl
from wmkit.evaluation.levels.reading import hierarchy_of


def test_kl_per_level_is_the_terms_of_the_loss_summed_over_time(either, clips) -> None:
    noise = either.draw_noise(5, 12, torch.Generator().manual_seed(3))
    terms = either(clips, None, noise).terms
    want = torch.stack([terms[f"kl_{level}"].sum(1) for level in (1, 2, 3)], dim=1)
    found = level_kl(either, clips, length=12, seed=3)
    torch.testing.assert_close(found.per_clip.float(), want)
    assert (found.levels, found.length, found.strides) == (3, 12, (1, 2, 4))


def test_balance_free_bits_and_scale_of_the_training_do_not_enter(model, clips) -> None:
    plain = level_kl(model, clips, length=8)
    model.config.kl_balance, model.config.free_bits, model.config.kl_scale = 0.8, 100.0, 0.1
    assert torch.equal(level_kl(model, clips, length=8).per_clip, plain.per_clip)


def test_the_first_frames_are_the_whole_of_a_shorter_clip(model, clips) -> None:
    assert torch.equal(
        level_kl(model, clips, length=6).per_clip, level_kl(model, clips.window(0, 6), length=6).per_clip
    )


def test_units_and_intervals_are_those_of_hand_computed_clips() -> None:
    kl = LevelKL(torch.tensor([[1.0, 0.0], [3.0, 0.0]]), 10, (1, 4))
    assert kl.nats(1).mean == 2.0
    assert kl.nats(1).half_width == pytest.approx(1.96 * math.sqrt(2) / math.sqrt(2))
    assert kl.bits(1).mean == pytest.approx(2 / math.log(2))
    entry = kl.to_json()["levels"][0]
    assert entry["nats_per_frame"]["mean"] == pytest.approx(0.2)
    assert entry["bits_per_frame"]["low"] == pytest.approx(kl.bits(1).low / 10)
    assert kl.to_json()["levels"][1]["nats"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "episodes": 2}


def test_a_model_without_levels_and_short_clips_are_refused(model, clips) -> None:
    with pytest.raises(ValueError, match="this model has a LatentDynamics: train one with backbone=clockwork"):
        hierarchy_of(build_world_model("gru", "tiny", (1, 8, 8), 0))
    with pytest.raises(ValueError, match="but the episodes have 12"):
        level_kl(model, clips, length=13)
