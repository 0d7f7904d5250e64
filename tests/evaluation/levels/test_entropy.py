"""Entropy over time: of what was read, and of what is expected when nothing is read any more."""

import torch

from wmkit.evaluation.levels.entropy import OPEN_LOOP, POSTERIOR, PRIOR, level_entropy
from wmkit.evaluation.levels.reading import imagine_levels, observe_levels
from wmkit.evaluation.rollout import evaluating


def test_ticks_meet_at_the_contexts_end(either, clips) -> None:
    """Causal windows end with the context at a tick, smoothing ones before the next."""
    found = level_entropy(either, clips, context=6, horizon=5)
    bottom, middle, top = found.levels
    assert bottom[PRIOR].steps == tuple(range(-5, 6))
    assert bottom[OPEN_LOOP].steps == (1, 2, 3, 4, 5)
    causal = either.dynamics.causal
    assert middle[POSTERIOR].steps == ((-5, -4, -2, 0, 2, 4) if causal else (-5, -3, -1, 1, 3, 5))
    assert top[PRIOR].steps == ((-5, -4, 0, 4) if causal else (-5, -3, 1, 5))
    assert top[OPEN_LOOP].steps == ((4,) if causal else (1, 5))
    assert found.levels[0][PRIOR].nats.shape == (5, 11)


def test_entropies_in_the_context_are_those_that_training_logs(either, clips) -> None:
    noise = either.draw_noise(5, 12, torch.Generator().manual_seed(0))
    found = level_entropy(either, clips, context=8, horizon=4)
    with evaluating(either):
        seen, _ = observe_levels(either, clips.window(0, 8), noise[:, :8], context=8)
        want = either.dynamics.entropies(seen)
    for level, (curves, part) in enumerate(zip(found.levels, seen.levels, strict=True), 1):
        ticks = list(part.ticks)
        for name in (PRIOR, POSTERIOR):
            inside = torch.from_numpy(curves[name].nats[:, : len(ticks)]).float()
            torch.testing.assert_close(inside, want[f"{name}_entropy_{level}"][:, ticks])


def test_the_tops_first_open_loop_tick_is_what_a_reader_expects_and_nothing_later_is(model, clips) -> None:
    found = level_entropy(model, clips, context=4, horizon=8)
    reading, alone = (torch.from_numpy(found.levels[2][name].nats) for name in (PRIOR, OPEN_LOOP))
    torch.testing.assert_close(reading[:, 2], alone[:, 0])
    assert not torch.equal(reading[:, 3], alone[:, 1])
    reading, alone = (torch.from_numpy(found.levels[0][name].nats) for name in (PRIOR, OPEN_LOOP))
    torch.testing.assert_close(reading[:, 4], alone[:, 0])
    assert not torch.equal(reading[:, 5], alone[:, 1])


def test_going_on_draws_what_imagining_draws(either, clips) -> None:
    noise = either.draw_noise(5, 12)
    with evaluating(either):
        _, state = observe_levels(either, clips.window(0, 7), noise[:, :7], context=7)
        seen = imagine_levels(either, clips.action[:, 7:], noise[:, 7:], state)
        imagined = either.imagine(clips.action[:, 7:], state, noise=noise[:, 7:])
    torch.testing.assert_close(seen.features, imagined.features)


def test_a_horizon_shorter_than_a_stride_has_no_open_loop_tick(model, clips) -> None:
    curve = level_entropy(model, clips, context=5, horizon=3).levels[2][OPEN_LOOP].to_json()
    assert curve == {"steps": [], "mean": [], "low": [], "high": []}


def test_json_holds_one_list_per_curve(model, clips) -> None:
    values = level_entropy(model, clips, context=4, horizon=8).to_json()
    assert (values["clips"], values["context"], values["horizon"]) == (5, 4, 8)
    curve = values["levels"][2][OPEN_LOOP]
    assert curve["steps"] == [4, 8]
    assert len(curve["mean"]) == len(curve["low"]) == 2
