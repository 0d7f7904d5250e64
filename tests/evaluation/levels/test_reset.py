"""Level reset: what is imagined when some levels have not seen the context, and how it is judged."""

import pytest
import torch

from wmkit.evaluation.levels.reading import decoded_frames
from wmkit.evaluation.levels.reset import IMAGINED, IN_CONTEXT, level_reset, level_subsets, name_of
from wmkit.evaluation.levels.samples import conditions, level_samples
from wmkit.evaluation.rollout import evaluating, imagine, observe


def brightness(frames, query):
    return {"brightness": frames.mean((-3, -2, -1)), "mean of truth": query.image.float().mean((-3, -2, -1))}


def test_every_subset_of_levels_comes_once_and_has_a_name() -> None:
    assert level_subsets(2) == [(), (1,), (2,), (1, 2)]
    assert len(set(level_subsets(4))) == 16
    names = [name_of(prior_levels, 3) for prior_levels in level_subsets(3)]
    assert names[0] == "all see"
    assert names[2] == "level 2 on its prior"
    assert names[-2] == "levels 2, 3 on their priors"
    assert names[-1] == "none sees"
    assert name_of((), 1) == "all see"
    assert name_of((1,), 1) == "none sees"


def test_with_nothing_reset_the_prediction_is_the_ordinary_one(either, clips) -> None:
    with evaluating(either):
        seen = observe(either, clips, 7, torch.Generator().manual_seed(0))
        future = imagine(either, seen, clips.action[:, 7:])
        want = either.decode(torch.cat([seen.features[:, 4:7], future], dim=1)).clamp(0, 1)
        noise = either.draw_noise(5, 12, torch.Generator().manual_seed(0))
        found = decoded_frames(either, clips, noise, context=7, seen=3, prior_levels=())
    torch.testing.assert_close(found, want)


def test_with_everything_reset_it_is_open_loop_from_the_start(either, clips) -> None:
    """Where the clock begins at phase 0: causal windows end at a tick, smoothing ones before one."""
    context = 9 if either.dynamics.causal else 8
    with evaluating(either):
        noise = either.draw_noise(5, 12)
        imagined = either.imagine(clips.action, either.initial_state(5), noise=noise).features[:, 6:]
        want = either.decode(imagined).clamp(0, 1)
        for batch in (clips, clips.map(lambda x: x.flip(0))):
            found = decoded_frames(either, batch, noise, context=context, seen=context - 6, prior_levels=(1, 2, 3))
            torch.testing.assert_close(found, want)


def test_the_judge_sees_every_condition_with_its_truth(model, clips) -> None:
    found = level_reset(model, clips, brightness, context=6, horizon=4)
    assert (found.levels, found.seen, found.horizon) == (3, 6, 4)
    assert found.names == ["brightness", "mean of truth"]
    assert list(found.steps) == list(range(-5, 5))
    assert list(found.measures) == level_subsets(3)
    truth = clips.image[:, :10].float().mean((-3, -2, -1))
    for measures in found.measures.values():
        torch.testing.assert_close(torch.from_numpy(measures["mean of truth"]).float(), truth)
    bright = {
        prior_levels: torch.from_numpy(measures["brightness"]).float()
        for prior_levels, measures in found.measures.items()
    }
    assert len({tuple(x.flatten().tolist()) for x in bright.values()}) == 8
    estimates = found.over((1,), "brightness", last=2)
    assert estimates[IN_CONTEXT].mean == pytest.approx(float(bright[(1,)][:, :6].mean()), rel=1e-6)
    assert estimates[IMAGINED].mean == pytest.approx(float(bright[(1,)][:, 6:8].mean()), rel=1e-6)
    values = found.to_json(last=99)
    assert values["imagined_frames_in_mean"] == 4
    assert values["conditions"][1]["name"] == "level 1 on its prior"
    assert len(values["conditions"][1]["brightness"]["curve"]["mean"]) == len(values["step"]) == 10


def test_at_most_ten_frames_of_the_context_are_judged(model, clips) -> None:
    assert level_reset(model, clips, brightness, context=11, horizon=1).steps == range(-9, 2)


def test_samples_come_for_all_for_each_level_on_its_prior_for_each_alone_and_for_none(model, clips) -> None:
    clip = clips.map(lambda x: x[:1])
    found = level_samples(model, clip, context=6, horizon=3, draws=2)
    assert list(found.frames) == list(conditions(3))
    assert conditions(3)["level 2 alone sees"] == (1, 3)
    assert conditions(1) == {"all levels see": (), "none sees": (1,)}
    assert conditions(2) == {
        "all levels see": (),
        "level 1 on its prior": (1,),
        "level 2 on its prior": (2,),
        "none sees": (1, 2),
    }
    for frames in found.frames.values():
        assert frames.shape == (2, 9, 1, 8, 8)
        assert not torch.equal(frames[0], frames[1])
    assert torch.equal(found.truth, clip.image[0, :9])
    before, after = found.error("all levels see")
    errors = (found.frames["all levels see"] - found.truth / 255).square().sum((2, 3, 4)).mean(0)
    assert (before, after) == pytest.approx((float(errors[:6].mean()), float(errors[6:].mean())))
    halves = (found.frames["level 1 on its prior"][0] - found.frames["level 1 on its prior"][1]).square().sum(
        (1, 2, 3)
    ) / 2
    assert found.spread("level 1 on its prior")[0] == pytest.approx(float(halves[:6].mean()), rel=1e-5)
