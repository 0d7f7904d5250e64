"""Open-loop evaluation: what is compared with what, and which sample counts as best."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from wmkit.build import build_world_model
from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation import rollout
from wmkit.evaluation.digits.frames import CLIP_LENGTH, fit_frame_probe
from wmkit.evaluation.digits.truth import IDENTITY, KEYS, POSITION, Digits, judge
from wmkit.evaluation.video.figures import draw_video_curves
from wmkit.evaluation.video.open_loop import evaluate_video, futures
from wmkit.evaluation.video.report import (
    BLACK,
    COPY_LAST,
    FLOORS,
    GENERATION,
    MEAN_IMAGE,
    OTHER_CLIP,
    TRUE_FRAMES,
    VideoEvaluation,
    best_of,
)
from wmkit.evaluation.video.similarity import SIMILARITIES, psnr
from wmkit.world_model import Imagined
from wmkit_envs import MovingMnist

CONTEXT, HORIZON = 6, 8


@pytest.fixture(scope="module")
def video():
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0, split="test", length=CONTEXT + HORIZON + 2)
    return next(WholeEpisodes(source, 5, keys=KEYS))


@pytest.fixture(scope="module")
def probe():
    return fit_frame_probe(GeneratedEpisodes(MovingMnist(side=32), seed=0, length=CLIP_LENGTH), steps=3)


@pytest.fixture
def model():
    return build_world_model("gru", "tiny", image_shape=(1, 32, 32), action_dim=0)


class Repeater(nn.Module):
    """Imagines the last frame of the context, plus as much noise as it is given."""

    action_dim = 0
    device = torch.device("cpu")

    def __init__(self, loudness: float) -> None:
        super().__init__()
        self.loudness = nn.Parameter(torch.tensor(loudness))

    def draw_noise(self, batch_size, length, generator):
        return torch.randn(batch_size, length, 32 * 32, generator=generator)

    def initial_state(self, batch_size, context):
        return context

    def observe(self, image, action, *, state, noise):
        assert state == image.shape[1]
        return None, image[:, -1].flatten(1) / 255

    def imagine(self, action, state, *, noise):
        return Imagined(state[:, None] + self.loudness * noise, None)

    def decode(self, features):
        return features.reshape(*features.shape[:2], 1, 32, 32)


def test_every_predictor_has_a_curve_of_every_metric(model, video, probe):
    result = evaluate_video(model, video, context=CONTEXT, horizon=HORIZON, samples=2, probe=probe)
    assert (result.clips, result.context, result.horizon, result.samples) == (5, CONTEXT, HORIZON, 2)
    assert set(result.curves) == {*SIMILARITIES, IDENTITY, POSITION}
    for metric, rows in result.curves.items():
        ceiling = {TRUE_FRAMES} if metric in (IDENTITY, POSITION) else set()
        assert set(rows) == {GENERATION, "best of 2 samples", *FLOORS} | ceiling
        assert all(errors.per_episode.shape == (5, HORIZON) for errors in rows.values())


def test_floors_are_what_they_are_called(model, video):
    query = video.image[:, CONTEXT : CONTEXT + HORIZON]
    training = torch.randint(256, (3, 4, 1, 32, 32), dtype=torch.uint8)
    curves = evaluate_video(model, video, context=CONTEXT, horizon=HORIZON, training_frames=training).curves["psnr"]
    expected = {
        BLACK: torch.zeros(1, 32, 32),
        MEAN_IMAGE: training.float().mean((0, 1)) / 255,
        COPY_LAST: video.image[:, CONTEXT - 1 : CONTEXT].expand_as(query),
        OTHER_CLIP: torch.cat([query[-1:], query[:-1]]),
    }
    for name, prediction in expected.items():
        torch.testing.assert_close(curves[name].per_episode, psnr(prediction, query), rtol=1e-5, atol=1e-5)


def test_a_model_that_repeats_the_last_frame_scores_as_that_floor(video):
    curves = evaluate_video(Repeater(0.0), video, context=CONTEXT, horizon=HORIZON).curves
    for metric in SIMILARITIES:
        one, floor = (curves[metric][name].per_episode for name in (GENERATION, COPY_LAST))
        torch.testing.assert_close(one, floor, rtol=1e-5, atol=1e-5)


def test_nothing_after_the_context_changes_a_prediction(model, video):
    def drawn(batch):
        with torch.inference_mode():
            return torch.cat(list(futures(model.eval(), batch, CONTEXT, torch.Generator().manual_seed(1))))

    changed = video.image.clone()
    changed[:, CONTEXT:] = 255
    assert torch.equal(drawn(video), drawn(dataclasses.replace(video, image=changed)))


def test_clips_in_groups_give_the_same_futures(video, monkeypatch):
    model = Repeater(0.1)
    whole = evaluate_video(model, video, context=CONTEXT, horizon=HORIZON).curves["psnr"][GENERATION].per_episode
    monkeypatch.setattr(rollout, "FRAMES_AT_ONCE", 2 * (CONTEXT + HORIZON))
    parts = evaluate_video(model, video, context=CONTEXT, horizon=HORIZON).curves["psnr"][GENERATION].per_episode
    torch.testing.assert_close(parts, whole)


def test_the_best_sample_is_chosen_per_clip_and_metric_over_all_frames(video, probe):
    result = evaluate_video(Repeater(0.3), video, context=CONTEXT, horizon=HORIZON, samples=3, probe=probe, seed=5)
    batch = video.window(0, CONTEXT + HORIZON)
    query = batch.window(CONTEXT, CONTEXT + HORIZON)
    generator = torch.Generator().manual_seed(5)
    with torch.inference_mode():
        drawn = [torch.cat(list(futures(Repeater(0.3), batch, CONTEXT, generator))) for _ in range(3)]
    scores = torch.stack([psnr(frames, query.image) for frames in drawn])
    distance = torch.stack([judge(probe.read(frames), Digits.of(query))[POSITION] for frames in drawn])
    for metric, values, best in (
        ("psnr", scores, scores.mean(-1).amax(0)),
        (POSITION, distance, distance.mean(-1).amin(0)),
    ):
        torch.testing.assert_close(result.curves[metric][GENERATION].per_episode, values[0])
        torch.testing.assert_close(result.curves[metric][best_of(3)].per_episode.mean(-1), best)


def test_a_report_says_how_it_was_made(model, video, probe, tmp_path):
    result = evaluate_video(
        model, video, context=CONTEXT, horizon=HORIZON, samples=2, probe=probe, notes={"digits": "scikit-learn's"}
    )
    result.save(tmp_path / "video.json")
    saved = json.loads((tmp_path / "video.json").read_text())
    assert (saved["samples"], saved["clips"], saved["notes"]) == (2, 5, {"digits": "scikit-learn's"})
    assert len(saved["curves"]["psnr"][BLACK]["half_width"]) == HORIZON
    assert set(saved["table"]["psnr"][GENERATION]) == {"1-5", "6-8"}
    sheet = result.sheets()[0]
    assert "5 held-out clips, 6 frames seen, 8 imagined" in sheet.caption
    assert "digits: scikit-learn's." in sheet.caption
    assert sheet.headings == ["frame 1-5", "frame 6-8"]
    assert "best of 2 samples" in sheet.rows
    draw_video_curves(result, tmp_path / "video.png", "tiny")
    assert (tmp_path / "video.png").stat().st_size > 1000


def test_ranges_end_at_the_horizon(video, model):
    result = evaluate_video(model, video, context=CONTEXT, horizon=3)
    assert result.columns() == [(1, 3)]
    assert isinstance(result, VideoEvaluation)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"samples": 0}, "samples: expected 1 or more"), ({"horizon": 99}, "shorten one of the two")],
)
def test_what_cannot_be_is_refused(model, video, wrong, message):
    with pytest.raises(ValueError, match=message):
        evaluate_video(model, video, **({"context": CONTEXT, "horizon": HORIZON} | wrong))


def test_a_single_clip_is_refused_because_another_is_needed(model, video):
    with pytest.raises(ValueError, match="at least 2 episodes"):
        evaluate_video(model, video.map(lambda x: x[:1]), context=CONTEXT, horizon=HORIZON)
