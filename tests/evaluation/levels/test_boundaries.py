"""F1 of boundaries: perfect ones, those of a clock, and those of chance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wmkit.batch import Batch
from wmkit.build import build_world_model
from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation.levels.boundaries import FARTHEST, Boundaries, Score, by_chance, draw_boundaries, find_boundaries
from wmkit.video_models import VtaConfig, VtaObserved
from wmkit.world_model import WorldModel
from wmkit_envs import BouncingBalls


def at_random(*shares: float, clips: int = 400, length: int = 100, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(clips, length, generator=generator) < share for share in shares]


def test_perfect_boundaries_have_a_score_of_one_without_width() -> None:
    true, counts = at_random(0.2, 0.9, clips=10)
    one = Boundaries(true, true, counts)
    assert one.score == Score(1, 1, 1)
    assert (one.f1.mean, one.f1.half_width, one.f1.episodes) == (1, 0, 10)
    assert Boundaries(~true, true, counts).score == Score(0, 0, 0)


@given(seed=st.integers(0, 99), found=st.floats(0, 1), true=st.floats(0, 1), judged=st.floats(0.1, 1))
@settings(max_examples=50, deadline=None)
def test_scores_are_those_of_counting_the_judged_steps_one_by_one(seed, found, true, judged) -> None:
    one = Boundaries(*at_random(found, true, judged, clips=3, length=9, seed=seed))
    steps = [
        (bool(f), bool(t))
        for f, t, c in zip(one.found.flatten(), one.true.flatten(), one.counts.flatten(), strict=True)
        if c
    ]
    hits, wrong, missed = (steps.count(kind) for kind in ((True, True), (True, False), (False, True)))
    assert one.score.precision == pytest.approx(hits / max(1, hits + wrong))
    assert one.score.recall == pytest.approx(hits / max(1, hits + missed))
    assert one.score.f1 == pytest.approx(2 * hits / max(1, 2 * hits + wrong + missed))
    assert one.f1.mean == pytest.approx(one.score.f1)


@pytest.mark.parametrize(("rate", "true_rate"), [(0.1, 0.3), (0.3, 0.3), (1.0, 0.2)])
def test_boundaries_at_random_score_what_the_formula_of_chance_says(rate: float, true_rate: float) -> None:
    one = Boundaries(*at_random(rate, true_rate, 0.95))
    for found, expected in zip(one.score, by_chance(rate, true_rate), strict=True):
        assert found == pytest.approx(expected, abs=0.015)
    assert one.chance.f1 == pytest.approx(by_chance(rate, true_rate).f1, abs=0.01)
    assert by_chance(rate, true_rate).f1 <= by_chance(1.0, true_rate).f1 + 1e-12


def test_the_clock_has_the_rate_of_what_was_found_and_knows_no_more_than_chance() -> None:
    found, true = at_random(0.2, 0.3)
    one = Boundaries(found, true, torch.ones_like(found))
    assert one.clock.rate == pytest.approx(one.rate, abs=0.01)
    assert one.clock.score.f1 == pytest.approx(by_chance(0.2, 0.3).f1, abs=0.015)


@pytest.mark.parametrize("period", [1, 3, 7, 49])
def test_a_clock_ticks_with_its_period_and_finds_boundaries_that_do_so_too(period: int) -> None:
    true = (torch.arange(2 * 49 * 3) % period == 0).expand(2, -1)
    late = true.roll(1, 1)  # as many, elsewhere
    one = Boundaries(late, true, torch.ones_like(true))
    assert torch.equal(one.clock.found, true)
    assert one.clock.score == Score(1, 1, 1)


def test_steps_that_are_not_judged_change_nothing() -> None:
    found, true, counts = at_random(0.3, 0.2, 0.8, clips=5)
    one, other = (Boundaries(found ^ (~counts & swap), true, counts) for swap in (found, ~found))
    assert one.score == other.score
    assert one.clock.score == other.clock.score


def test_boundaries_that_come_late_are_found_when_they_are_moved_back() -> None:
    (true,) = at_random(0.2, clips=20, length=30)
    late = true.roll(2, 1)
    late[:, :2] = False
    one = Boundaries(late, true, torch.ones_like(true))
    scores = {steps: one.moved(steps).score.f1 for steps in range(-FARTHEST, FARTHEST + 1)}
    assert scores[-2] == 1
    assert max(value for steps, value in scores.items() if steps != -2) < 0.5
    assert scores[0] == one.score.f1
    assert one.moved(3).moved(-3).found.shape == (20, 24)


def test_nothing_found_and_nothing_to_find_score_zero() -> None:
    nothing, some = at_random(0.0, 0.5, clips=3)
    every = torch.ones_like(some)
    for one in (
        Boundaries(nothing, some, every),
        Boundaries(some, nothing, every),
        Boundaries(nothing, nothing, every),
    ):
        assert (one.score.f1, one.clock.score.f1, one.chance.f1, one.f1.mean) == (0, 0, 0, 0)


@pytest.fixture(scope="module")
def balls() -> Batch:
    source = GeneratedEpisodes(BouncingBalls(side=8), seed=0, split="test", num_episodes=3, length=12)
    return next(iter(WholeEpisodes(source, 3, shuffle=False, epochs=1, keys=("boundary",))))


def model_of(**options: int) -> WorldModel:
    torch.manual_seed(0)
    return build_world_model(VtaConfig(width=8, latent_size=2, **options), "tiny", (3, 8, 8), 0)


def test_a_models_boundaries_are_those_it_reads_at_and_the_forced_ones_do_not_count(balls: Batch) -> None:
    model = model_of(window=5)
    one = find_boundaries(model, balls, length=11)
    assert model.training
    seen, _ = model.eval().observe(balls.image[:, :11], balls.action[:, :11])
    assert isinstance(seen, VtaObserved)
    assert torch.equal(one.found, seen.read > 0.5)
    assert one.counts[0].tolist() == [step % 5 > 0 for step in range(11)]
    assert torch.equal(one.true, balls.extras["boundary"][:, :11])
    assert 0 < one.rate < 1
    assert len(draw_boundaries({"one": one}).axes[0].lines) == 3


def test_a_model_without_boundaries_and_short_clips_are_refused(balls: Batch) -> None:
    with pytest.raises(ValueError, match="this model has a LatentDynamics: train one with backbone=vta"):
        find_boundaries(build_world_model("gru", "tiny", (3, 8, 8), 0), balls, length=12)
    with pytest.raises(ValueError, match="but the episodes have 12"):
        find_boundaries(model_of(window=4), balls, length=13)
