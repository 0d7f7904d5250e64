"""Context, query, and what the model is asked for."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from wmkit.build import build_world_model
from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation import rollout
from wmkit.evaluation.digits.probe import CLIP_LENGTH, fit_frame_probe
from wmkit.evaluation.digits.truth import IDENTITY, KEYS, POSITION
from wmkit.evaluation.evaluate import evaluate, make_video
from wmkit.evaluation.measures.base import Measure
from wmkit.evaluation.measures.digits import DigitAccuracy
from wmkit.evaluation.measures.frames import frame_error
from wmkit.evaluation.measures.similarity import SIMILARITIES, psnr
from wmkit.evaluation.predictors import (
    BEST_OF_N,
    BLACK,
    COPY_LAST,
    IMAGINED,
    MEAN_IMAGE,
    NO_MEMORY,
    OBSERVED,
    OTHER_CLIP,
    RANDOM_FRAME,
    SHUFFLED_ACTIONS,
    TRUE_FRAMES,
)
from wmkit.evaluation.record import Metric
from wmkit.world_model import Imagined
from wmkit_envs import MovingMnist

FRAMES = {OBSERVED, IMAGINED, SHUFFLED_ACTIONS, NO_MEMORY, MEAN_IMAGE, RANDOM_FRAME, COPY_LAST}
ERROR = "frame_error"
CONTEXT, HORIZON = 6, 8


class ClockWorld(nn.Module):
    """A perfect model of a world whose frame is the running sum of its first action: its state is that sum."""

    device = torch.device("cpu")

    def prepared(self):
        return contextlib.nullcontext()

    def draw_noise(self, batch_size, length, generator):
        return torch.zeros(batch_size, length, 1)

    def initial_state(self, batch_size, context):
        return torch.zeros(batch_size, 1, 1)

    def observe(self, image, action, *, state, noise, return_state=True):
        sums = state + action[..., :1].cumsum(dim=1)
        return Seen(sums), sums[:, -1:]

    def imagine(self, action, state, *, noise):
        return Imagined(state + action[..., :1].cumsum(dim=1), None, action)

    def decode(self, features):
        return (features / 255)[..., None, None].expand(*features.shape[:2], 3, 8, 8)


@dataclasses.dataclass
class Seen:
    features: torch.Tensor


@pytest.fixture
def clock_batch(batch):
    sums = batch.action[..., 0].cumsum(dim=1)
    image = sums.to(torch.uint8)[:, :, None, None, None].expand_as(batch.image)
    return dataclasses.replace(batch, image=image)


def test_without_memory_the_context_is_its_last_frame(clock_batch):
    """This model's memory is the sum of the actions so far, which begins anew at the last frame of the context."""
    result = evaluate(ClockWorld(), clock_batch, context=CONTEXT, horizon=HORIZON)
    forgotten = clock_batch.action[:, :CONTEXT, 0].sum(dim=1, keepdim=True)  # (B, 1)
    expected = ((forgotten / 255) ** 2 * 3 * 8 * 8).expand(-1, HORIZON)
    np.testing.assert_allclose(result.values(ERROR, NO_MEMORY), expected.numpy(), rtol=1e-4)


def test_perfect_model_has_no_error_and_other_actions_do(clock_batch):
    result = evaluate(ClockWorld(), clock_batch, context=6, horizon=8)
    assert result.values(ERROR, OBSERVED, (-4, 0)).max() < 1e-9
    assert result.values(ERROR, OBSERVED).max() < 1e-9
    assert result.values(ERROR, IMAGINED).max() < 1e-9
    assert result.values(ERROR, SHUFFLED_ACTIONS)[:, -1].max() > 0


def test_other_actions_are_those_of_the_row_before_on_the_state_of_this_row(clock_batch):
    result = evaluate(ClockWorld(), clock_batch, context=6, horizon=8)
    start = clock_batch.action[:, :6, 0].sum(dim=1, keepdim=True)
    other = start + clock_batch.action.roll(1, dims=0)[:, 6:14, 0].cumsum(dim=1)
    truth = start + clock_batch.action[:, 6:14, 0].cumsum(dim=1)
    expected = 192 * ((other - truth) / 255).square()
    found = torch.from_numpy(result.values(ERROR, SHUFFLED_ACTIONS)).float()
    torch.testing.assert_close(found, expected)


def test_rolling_passes_over_the_borders_of_groups(clock_batch, monkeypatch):
    whole = evaluate(ClockWorld(), clock_batch, context=6, horizon=8)
    monkeypatch.setattr(rollout, "FRAMES_AT_ONCE", 2 * 14)
    grouped = evaluate(ClockWorld(), clock_batch, context=6, horizon=8)
    for name in FRAMES:
        np.testing.assert_allclose(grouped.values(ERROR, name), whole.values(ERROR, name), rtol=1e-6)


def test_values_are_of_the_query_and_of_the_context_but_its_first_step(model, batch):
    result = evaluate(model, batch, context=5, horizon=7)
    assert (result.episodes, result.context, result.horizon, result.about["pixels"]) == (5, 5, 7, 192)
    assert set(result.predictors(ERROR)) == FRAMES
    assert all(np.isfinite(result.values(ERROR, name)).all() for name in FRAMES)
    steps = {name: result.frame.filter(measure=ERROR, predictor=name)["step"].min() for name in FRAMES}
    assert steps == dict.fromkeys(FRAMES, 1) | {OBSERVED: -3, MEAN_IMAGE: -3}
    assert next(iter(result.columns(ERROR))) == "context"


def test_baselines_are_measured_on_the_query_frames(model, batch):
    training = torch.randint(256, (2, 9, 3, 8, 8), dtype=torch.uint8)
    result = evaluate(model, batch, context=5, horizon=7, training_frames=training)
    query = batch.image[:, 5:12]
    mean = (training.double() / 255).mean(dim=(0, 1)).float()
    for name, frames in {MEAN_IMAGE: mean, COPY_LAST: batch.image[:, 4:5]}.items():
        np.testing.assert_allclose(result.values(ERROR, name), frame_error(frames, query).numpy(), rtol=1e-5)
    assert result.about["mean_image_of"] == "training frames"
    assert "held-out" in evaluate(model, batch, context=5, horizon=7).about["mean_image_of"]


def test_seed_fixes_everything_and_the_mode_of_the_model_is_kept(model, batch):
    model.train()
    first = evaluate(model, batch, context=5, horizon=7, seed=1)
    assert model.training
    assert evaluate(model, batch, context=5, horizon=7, seed=1).frame.equals(first.frame)
    assert not evaluate(model, batch, context=5, horizon=7, seed=2).frame.equals(first.frame)


def test_longer_episodes_are_cut(model, batch):
    long, short = (evaluate(model, x, context=5, horizon=7) for x in (batch, batch.window(0, 12)))
    assert long.frame.equals(short.frame)


def test_what_is_measured_does_not_depend_on_what_else_is(model, batch):
    alone = evaluate(model, batch, context=5, horizon=7, measures=["frames"])
    more = evaluate(model, batch, context=5, horizon=7, measures=[Brightness(), "frames"], samples=3)
    assert more.measures == ["brightness", ERROR]
    assert more.frame.filter(measure=ERROR).equals(alone.frame)


class Brightness(Measure):
    """How bright frames are."""

    name = "brightness"
    metrics = (Metric("brightness", "grey levels", "higher"),)
    predictors = (IMAGINED, BEST_OF_N)

    def score(self, prediction, truth):
        return {"brightness": prediction.frames.mean((-3, -2, -1))}


def test_context_is_one_scan_and_imagination_single_steps_decoded_afterwards(batch, monkeypatch):
    model = build_world_model("transformer_xl", "tiny", image_shape=(3, 8, 8), action_dim=3)
    calls = []

    def record(cls, name, value):
        original = getattr(cls, name)
        monkeypatch.setattr(cls, name, lambda self, *a, **k: calls.append((name, value(*a))) or original(self, *a, **k))

    record(type(model.dynamics), "observe", lambda inputs, _: inputs.embed.shape[1])
    record(type(model.dynamics.backbone), "step", lambda x, _: len(x))
    record(type(model), "decode", lambda features: features.shape[1])
    make_video(model, batch, context=5, horizon=7)
    assert model.dynamics.parallel
    assert calls == [("observe", 5), ("observe", 7), *[("step", 5)] * 7, ("decode", 12)]


def test_video_shows_truth_and_bytes_of_the_model(model, batch):
    video = make_video(model, batch, context=5, horizon=7)
    assert torch.equal(video.truth, batch.image[:, :12])
    assert video.model.shape == video.truth.shape
    assert video.model.dtype == torch.uint8
    assert (video.context, video.horizon, video.episodes) == (5, 7, 5)


def test_video_without_memory_knows_of_the_context_its_last_frame_alone(model, batch):
    other = batch.image.clone()
    other[:, :4] = 255 - other[:, :4]
    one, two = (
        make_video(model, dataclasses.replace(batch, image=image), context=5, horizon=7, no_memory=True)
        for image in (batch.image, other)
    )
    assert one.no_memory.shape == (5, 8, *batch.image.shape[2:])
    assert torch.equal(one.no_memory, two.no_memory)
    assert not torch.equal(one.model[:, 5:], two.model[:, 5:])


def test_video_of_a_perfect_model_shows_what_happened(clock_batch):
    video = make_video(ClockWorld(), clock_batch, context=6, horizon=8)
    assert torch.equal(video.model, video.truth)
    assert len(video.truth.unique()) > 2  # the frames change


@pytest.mark.parametrize(
    ("context", "horizon", "message"),
    [
        (10, 5, "= 15 steps, but the episodes have 14"),
        (20, 1, "but the episodes have 14"),
        (1, 5, "context of at least 2"),
        (5, 0, "horizon of at least 1"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(model, batch, context, horizon, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, batch, context=context, horizon=horizon)


def test_windows_of_several_episodes_and_padding_are_refused(model, batch):
    packed = batch.is_first.clone()
    packed[2, 6] = True
    with pytest.raises(ValueError, match="whole episodes"):
        evaluate(model, dataclasses.replace(batch, is_first=packed, inner_reset=True), context=5, horizon=7)
    mask = batch.mask.clone()
    mask[1, 11:] = False
    with pytest.raises(ValueError, match="whole episodes"):
        evaluate(model, dataclasses.replace(batch, mask=mask), context=5, horizon=7)


def test_a_single_episode_is_refused_because_others_are_needed(model, batch):
    with pytest.raises(ValueError, match="at least 2 episodes"):
        evaluate(model, rollout.rows_of(batch, slice(0, 1)), context=5, horizon=7)
    two = evaluate(model, rollout.rows_of(batch, slice(0, 2)), context=5, horizon=7)
    assert RANDOM_FRAME in two.predictors(ERROR)


def test_without_actions_there_are_no_wrong_ones(batch):
    model = build_world_model("gru", "tiny", image_shape=(3, 8, 8), action_dim=0)
    still = dataclasses.replace(batch, action=batch.action[..., :0])
    result = evaluate(model, still, context=6, horizon=8)
    assert set(result.predictors(ERROR)) == FRAMES - {SHUFFLED_ACTIONS}
    assert not any("actions" in verdict.claim for verdict in result.verdicts)


def test_where_all_rows_do_the_same_there_are_no_wrong_actions(clock_batch):
    same = clock_batch.action.clone()
    same[:, 6:] = same[:1, 6:]  # in the context they may differ
    model, alike = ClockWorld(), dataclasses.replace(clock_batch, action=same)
    assert set(evaluate(model, alike, context=6, horizon=8).predictors(ERROR)) == FRAMES - {SHUFFLED_ACTIONS}
    same[2, 13] += 1
    assert SHUFFLED_ACTIONS in evaluate(model, alike, context=6, horizon=8).predictors(ERROR)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 0}, "samples: expected 1 or more"),
        ({"measures": ["frame"]}, r"Unknown measure 'frame'\. Did you mean 'frames'\?"),
        ({"measures": ["doors"]}, "'doors' does not apply .* reads tiles, atlas"),
    ],
)
def test_what_cannot_be_measured_is_refused(model, batch, wrong, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, batch, context=5, horizon=7, **wrong)


def test_scores_of_another_shape_are_refused(model, batch):
    class Wrong(Brightness):
        def score(self, prediction, truth):
            return {"brightness": prediction.frames.mean()}

    with pytest.raises(ValueError, match=r"'brightness': expected brightness as \(rows, steps\) = \(1, 7\).* got \(\)"):
        evaluate(model, batch, context=5, horizon=7, measures=[Wrong()])


@pytest.fixture(scope="module")
def clips():
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0, split="test", length=CONTEXT + HORIZON + 2)
    return next(WholeEpisodes(source, 5, keys=KEYS))


@pytest.fixture(scope="module")
def probe():
    return fit_frame_probe(GeneratedEpisodes(MovingMnist(side=32), seed=0, length=CLIP_LENGTH), steps=3)


class Repeater(nn.Module):
    """Imagines the last frame of the context, plus as much noise as it is given."""

    device, image_shape = torch.device("cpu"), (1, 32, 32)

    def __init__(self, loudness: float) -> None:
        super().__init__()
        self.loudness = loudness

    def prepared(self):
        return contextlib.nullcontext()

    def draw_noise(self, batch_size, length, generator):
        return torch.randn(batch_size, length, 32 * 32, generator=generator)

    def initial_state(self, batch_size, context):
        return None

    def observe(self, image, action, *, state, noise, return_state=True):
        return Seen(image.flatten(2) / 255), image[:, -1].flatten(1) / 255

    def imagine(self, action, state, *, noise):
        return Imagined(state[:, None] + self.loudness * noise, None, action)

    def decode(self, features):
        return features.reshape(*features.shape[:2], 1, 32, 32)


def open_loop(model, clips, **options):
    return evaluate(model, clips, context=CONTEXT, horizon=HORIZON, **{"measures": ["similarity"]} | options)


def test_video_is_judged_by_similarity_and_by_a_probe_beside_its_ceiling(clips, probe):
    model = build_world_model("gru", "tiny", image_shape=(1, 32, 32), action_dim=0)
    found = open_loop(model, clips, samples=2, measures=["similarity", DigitAccuracy(probe)])
    assert found.measures == [*SIMILARITIES, IDENTITY, POSITION]
    for measure in found.measures:
        ceiling = {TRUE_FRAMES} if measure in (IDENTITY, POSITION) else set()
        rows = {IMAGINED, BEST_OF_N, BLACK, MEAN_IMAGE, COPY_LAST, OTHER_CLIP} | ceiling
        assert set(found.predictors(measure)) == rows
        assert all(np.isfinite(found.values(measure, name)).all() for name in rows)
    assert found.about["samples"] == 2


def test_baselines_are_what_they_are_called(clips):
    query = clips.image[:, CONTEXT : CONTEXT + HORIZON]
    training = torch.randint(256, (3, 4, 1, 32, 32), dtype=torch.uint8)
    found = open_loop(Repeater(0.1), clips, training_frames=training)
    expected = {
        BLACK: torch.zeros(1, 32, 32),
        MEAN_IMAGE: training.float().mean((0, 1)) / 255,
        COPY_LAST: clips.image[:, CONTEXT - 1 : CONTEXT].expand_as(query),
        OTHER_CLIP: torch.cat([query[-1:], query[:-1]]),
    }
    for name, prediction in expected.items():
        np.testing.assert_allclose(found.values("psnr", name), psnr(prediction, query).numpy(), rtol=1e-5, atol=1e-5)


def test_a_model_that_repeats_the_last_frame_scores_as_that_baseline(clips):
    found = open_loop(Repeater(0.0), clips)
    for measure in SIMILARITIES:
        one, baseline = (found.values(measure, name) for name in (IMAGINED, COPY_LAST))
        np.testing.assert_allclose(one, baseline, rtol=1e-5, atol=1e-5)


def test_nothing_after_the_context_changes_a_prediction(model, batch):
    class Pixels(Brightness):
        def score(self, prediction, truth):
            return {"brightness": prediction.frames[..., 3, 4].sum(-1)}

    image = batch.image.clone()
    image[:, CONTEXT:] = 255 - image[:, CONTEXT:]
    found = [
        evaluate(model, dataclasses.replace(batch, image=x), context=CONTEXT, horizon=8, measures=[Pixels()])
        for x in (batch.image, image)
    ]
    assert found[0].frame.equals(found[1].frame)


def test_the_best_sample_is_chosen_per_clip_and_measure_over_all_steps(clips, probe, monkeypatch):
    drawn = []
    score = DigitAccuracy.score

    def recorded(self, prediction, truth):
        found = score(self, prediction, truth)
        drawn.append(psnr(prediction.frames, truth.image) if prediction._features is not None else None)
        return found

    monkeypatch.setattr(DigitAccuracy, "score", recorded)
    monkeypatch.setattr(rollout, "FRAMES_AT_ONCE", 2 * (CONTEXT + HORIZON))
    found = open_loop(Repeater(0.3), clips, samples=3, measures=[DigitAccuracy(probe), "similarity"])
    values = torch.cat([one for one in drawn if one is not None]).reshape(5, 3, HORIZON)  # row by row, each three
    means = values.mean(-1)
    np.testing.assert_allclose(found.values("psnr", IMAGINED), values[:, 0].numpy())
    np.testing.assert_allclose(found.values("psnr", BEST_OF_N).mean(-1), means.amax(1).numpy())
    assert (means.argmax(1) > 0).any()
    for measure, best in ((IDENTITY, np.maximum), (POSITION, np.minimum)):
        ours, first = (found.values(measure, name).mean(-1) for name in (BEST_OF_N, IMAGINED))
        np.testing.assert_array_equal(best(ours, first), ours)
