"""Distances between sets of clips: what is compared, what a record holds, and which files are loaded."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from wmkit.build import build_world_model
from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation import Measurements, evaluate, measure_tables
from wmkit.evaluation.estimates import jackknife
from wmkit.evaluation.frechet import frechet_distance
from wmkit.evaluation.measures import frechet
from wmkit.evaluation.measures.frechet import CorruptionDistance, FrechetVideoDistance
from wmkit.evaluation.predictors import BLACK, COPY_LAST, IMAGINED, MEAN_IMAGE, OBSERVED, TRAINING_CLIPS
from wmkit.evaluation.rollout import rows_of
from wmkit.weights import all_weights, register_weights
from wmkit_envs import MovingMnist

CONTEXT, HORIZON, CLIPS = 4, 20, 6
FEW = "6 clips are few for"


class Network(nn.Module):
    """Called as I3D is; its features are the mean colours of the corners, and the range that it saw."""

    def forward(
        self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> torch.Tensor:
        assert not rescale
        assert not resize
        assert return_features
        assert x.dim() == 5
        assert [x.size(1), x.size(3), x.size(4)] == [3, 224, 224]
        assert float(x.min()) >= -1.0
        assert float(x.max()) <= 1.0
        corners = torch.stack([x[..., :112, :112], x[..., 112:, :112], x[..., 112:, 112:]], dim=1)
        return torch.cat([corners.mean([2, 3, 4, 5]), torch.full([x.size(0), 1], float(x.size(2)))], dim=1)


@pytest.fixture(scope="module")
def clips():
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0, split="test", length=CONTEXT + HORIZON)
    return next(WholeEpisodes(source, CLIPS))


@pytest.fixture(scope="module")
def model():
    return build_world_model("gru", "tiny", image_shape=(1, 32, 32), action_dim=0)


@pytest.fixture
def network(publish, tmp_path):
    """A scripted network in the place of I3D."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Network()).save(str(tmp_path / "file"))
    return publish("i3d", tmp_path / "file")


def training(length):
    return GeneratedEpisodes(MovingMnist(side=32), seed=0, length=length)


def measured(model, clips, *measures, **options):
    return evaluate(model, clips, context=CONTEXT, horizon=HORIZON, measures=list(measures), **options)


def colours(image):
    """The network's features of clips (N, T, 1, 32, 32) uint8."""
    frames = torch.nn.functional.interpolate(image.flatten(0, 1) / 255, (224, 224), mode="bilinear")
    video = (2 * frames - 1).reshape(*image.shape[:3], 224, 224).mean((1, 2))
    corners = [video[:, :112, :112], video[:, 112:, :112], video[:, 112:, 112:]]
    return torch.stack([*(x.mean((1, 2)) for x in corners), torch.full((len(image),), 16.0)], dim=1).double().numpy()


def test_fvd_is_the_distance_of_both_ends_of_the_query(model, clips, network):
    found = measured(model, clips, "fvd", training=training)
    assert found.measures == ["fvd_start", "fvd_end"]
    rows = {OBSERVED, IMAGINED, BLACK, MEAN_IMAGE, COPY_LAST, TRAINING_CLIPS}
    assert set(found.predictors("fvd_end")) == rows
    query = clips.image[:, CONTEXT:]
    held = clips.image[:, CONTEXT - 1 : CONTEXT].expand_as(query)
    for metric, steps in (("fvd_start", slice(0, 16)), ("fvd_end", slice(-16, None))):
        true, copied = colours(query[:, steps]), colours(held[:, steps])
        for name, ours in ((COPY_LAST, copied), (BLACK, colours(torch.zeros_like(query[:, steps])))):
            expected = frechet_distance(ours, true)
            assert found.estimate(metric, name).mean == pytest.approx(expected, rel=1e-4, abs=1e-7)
    train = next(WholeEpisodes(training(CONTEXT + HORIZON), CLIPS)).image[:, CONTEXT:]
    expected = frechet_distance(colours(train[:, :16]), colours(query[:, :16]))
    assert found.estimate("fvd_start", TRAINING_CLIPS).mean == pytest.approx(expected, rel=1e-4)


def test_a_set_has_an_interval_and_tables_files_and_claims_read_it_like_any_other(model, clips, network, tmp_path):
    found = measured(model, clips, "fvd")
    estimate = found.estimate("fvd_start", COPY_LAST)
    assert estimate.episodes == CLIPS
    assert 0 < estimate.half_width < 10 * estimate.mean
    assert found.values("fvd_start", COPY_LAST).shape == (CLIPS, 1)
    assert not found.has_steps("fvd_start")
    found.save(tmp_path)
    assert Measurements.load(tmp_path).estimate("fvd_start", COPY_LAST) == estimate
    (first, _) = measure_tables(found)
    assert "6 held-out episodes" in first.caption
    assert "6 clips of 16 frames of the query, 4 features: I3D's logits" in first.caption
    assert str(estimate) in next(row for row in first.rows if row[0] == "last context frame")


def test_a_short_query_is_one_clip(model, clips, network):
    found = evaluate(model, clips, context=CONTEXT, horizon=12, measures=["fvd"])
    assert found.measures == ["fvd_start"]
    assert "clips of 12 frames" in found.metrics["fvd_start"].caption
    with pytest.raises(ValueError, match="'fvd' does not apply"):
        evaluate(model, clips, context=CONTEXT, horizon=9, measures=["fvd"])


def test_few_clips_are_warned_of(model, clips, network):
    with pytest.warns(UserWarning, match="fvd: 4 clips are few for 4 features"):
        found = measured(model, rows_of(clips, slice(0, 4)), "fvd")
    assert "4 clips are few for" in found.metrics["fvd_start"].caption


def test_the_caption_names_another_file(model, clips, network):
    i3d = all_weights()["i3d"]
    register_weights(dataclasses.replace(i3d, name="mine", file=network.name))
    found = measured(model, clips, FrechetVideoDistance(weights=network, file="mine"))
    assert "4 features: what the network mine returns, frames" in found.metrics["fvd_start"].caption


def test_another_file_is_refused_before_its_code_is_loaded(model, clips, network, monkeypatch):
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("torch.jit.load was called"))
    with pytest.raises(ValueError, match="its SHA-256 is"):
        measured(model, clips, "fvd")


def test_a_distance_without_a_published_network_is_named_by_its_encoder(model, clips, monkeypatch):
    fit = frechet.fit_clip_encoder
    monkeypatch.setattr(frechet, "fit_clip_encoder", lambda source, length: fit(source, length, steps=30))
    with pytest.warns(UserWarning, match=f"fd_corruptions: {FEW} 64 features"):
        found = measured(model, clips, "fd_corruptions", training=training)
    assert found.measures == ["fd_corruptions_start", "fd_corruptions_end"]
    metric = found.metrics["fd_corruptions_start"]
    assert "FVD" not in metric.title
    assert "an encoder trained here to tell corruptions, weights " in metric.caption
    means = {name: found.estimate(metric.name, name).mean for name in found.predictors(metric.name)}
    assert min(means, key=means.__getitem__) == TRAINING_CLIPS


def test_an_encoder_needs_training_episodes_of_the_same_images(model, clips):
    with pytest.raises(ValueError, match="'fd_corruptions' does not apply"):
        measured(model, clips, "fd_corruptions")

    def larger(length):
        return GeneratedEpisodes("moving_mnist", seed=0)

    with pytest.raises(ValueError, match=r"whose images are \(1, 64, 64\); the held-out ones are \(1, 32, 32\)"):
        measured(model, clips, CorruptionDistance(), training=larger)


def test_a_training_split_that_is_too_small_has_no_floor(model, clips, network):
    def few(length):
        return GeneratedEpisodes(MovingMnist(side=32), seed=0, length=length, num_episodes=5)

    assert TRAINING_CLIPS not in measured(model, clips, "fvd", training=few).predictors("fvd_start")


def test_vectors_of_another_shape_are_refused(model, clips, network, monkeypatch):
    monkeypatch.setattr(
        FrechetVideoDistance, "score", lambda *_: {"fvd_start": torch.zeros(1), "fvd_end": torch.zeros(1)}
    )
    with pytest.raises(ValueError, match=r"'fvd': expected vectors \(rows, F\) with 1 rows for fvd_start, got \(1,\)"):
        measured(model, clips, "fvd")


def test_leaving_a_clip_out_leaves_out_its_prediction_and_its_truth():
    rng = np.random.default_rng(0)
    ours, true = torch.from_numpy(rng.standard_normal((2, 5, 3)))
    measure = FrechetVideoDistance()
    measure.true = {"fvd_start": true}
    expected = jackknife(lambda rows: frechet_distance(ours.numpy()[rows], true.numpy()[rows]), 5)
    np.testing.assert_allclose(measure.pool("fvd_start", ours).numpy(), expected)
