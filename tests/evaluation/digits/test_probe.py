"""Probes learn what there is to learn, the same each time, and say nothing of what is not there."""

import pytest
import torch

from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation.digits import probe as probes
from wmkit.evaluation.digits.probe import CLIP_LENGTH, FrameReader, disturbed, fit_feature_probe, fit_frame_probe
from wmkit.evaluation.digits.truth import IDENTITY, KEYS, POSITION, Digits, chart, judge
from wmkit.networks import to_unit
from wmkit_envs import MovingMnist


def clips(split, count, length):
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0, split=split, length=length)
    return next(WholeEpisodes(source, count, keys=KEYS))


def means(probe, x, truth):
    return {name: float(score.mean()) for name, score in judge(probe.read(x), truth).items()}


@pytest.fixture(scope="module")
def frame_probe():
    return fit_frame_probe(GeneratedEpisodes(MovingMnist(side=32), seed=0, length=CLIP_LENGTH), steps=200)


def test_a_frame_probe_finds_and_names_digits_it_has_not_seen(frame_probe):
    batch = clips("test", 30, 6)
    scores = means(frame_probe, batch.image, Digits.of(batch))
    assert scores[IDENTITY] > 0.4
    assert scores[POSITION] < 4
    blind = means(frame_probe, torch.zeros_like(batch.image), Digits.of(batch))
    assert blind[IDENTITY] < 0.35
    assert blind[POSITION] > 5


def test_bytes_and_floats_and_frames_out_of_range_are_read_alike(frame_probe):
    image = clips("test", 2, 3).image
    one = frame_probe.read(image)
    for same in (image.float() / 255, torch.where(image == 0, -0.1, image / 255)):
        other = frame_probe.read(same)
        assert torch.equal(other.identity, one.identity)
        torch.testing.assert_close(other.position, one.position)
    assert (one.identity.shape, one.position.shape) == ((2, 3, 2), (2, 3, 2, 2))


def test_a_probe_is_the_same_for_the_same_seed_and_leaves_the_global_one_alone():
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0, length=CLIP_LENGTH)
    before = torch.random.get_rng_state()
    one, same = (fit_frame_probe(source, steps=2, seed=3) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b in zip(one.reader.parameters(), same.reader.parameters(), strict=True):
        assert torch.equal(a, b)


def test_each_kind_of_probe_has_its_own_rate_and_number_of_steps(monkeypatch):
    fits = []
    monkeypatch.setattr(probes, "fit", lambda *_, steps, rate: fits.append((steps, rate)))
    fit_frame_probe(GeneratedEpisodes(MovingMnist(side=32), seed=0, length=CLIP_LENGTH))
    fit_feature_probe(torch.ones(4, 4, 3), Digits(torch.zeros(4, 4, 2).long(), torch.zeros(4, 4, 2, 2)), 32)
    assert fits == [(2000, 5e-3), (1500, 1e-2)]


def test_a_digit_is_read_alike_wherever_it_is():
    reader = FrameReader(1).eval()
    frame = torch.zeros(2, 1, 32, 32)
    frame[0, :, 8:18, 8:18] = frame[1, :, 12:22, 10:20] = torch.rand(1, 10, 10)
    one, other = reader(frame).detach().reshape(2, 10, 10, 10)
    torch.testing.assert_close(one[:, :-2, :-1] - one.max(), other[:, 2:, 1:] - other.max())


def test_a_disturbed_frame_shows_its_digits_where_the_truth_then_says():
    """The brightest spot of a frame with one dot goes where the dot goes."""
    position = torch.tensor([[[20.0, 12.0]], [[10.5, 21.5]]]).repeat(20, 1, 1)
    frame = torch.zeros(40, 1, 32, 32)
    rows, columns = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    frame[:, 0] = torch.exp(-((rows - position[:, :, 1:]) ** 2 + (columns - position[:, :, :1]) ** 2) / 4)
    moved, truth = disturbed(frame, Digits(torch.zeros(40, 1).long(), position), torch.Generator().manual_seed(0))
    bright = moved[:, 0].clamp(min=0.25) - 0.25
    seen = torch.stack([(bright * axis).sum((1, 2)) / bright.sum((1, 2)) for axis in (columns, rows)], dim=-1)
    assert float((seen - truth.position[:, 0]).norm(dim=-1).max()) < 1
    assert float((truth.position - position).norm(dim=-1).max()) > 1


@pytest.mark.parametrize("hidden", [None, 32])
def test_a_feature_probe_reads_what_features_hold_and_nothing_else(hidden):
    train, test = clips("train", 60, 8), clips("test", 30, 8)
    truth, held_out = Digits.of(train), Digits.of(test)
    classes, other = chart(truth, 32)[0], chart(held_out, 32)[0]
    noise = torch.randn(60, 8, 5)
    probe = fit_feature_probe(torch.cat([classes, noise], -1), truth, 32, hidden=hidden, steps=400)
    scores = means(probe, torch.cat([other, torch.randn(30, 8, 5)], -1), held_out)
    assert scores[IDENTITY] > 0.9
    assert scores[POSITION] > 3  # nothing was said of places


def test_a_feature_probe_reads_places():
    train, test = clips("train", 60, 8), clips("test", 30, 8)
    places = [chart(Digits.of(batch), 32)[1] for batch in (train, test)]
    probe = fit_feature_probe(places[0], Digits.of(train), 32, steps=300)
    scores = means(probe, places[1], Digits.of(test))
    assert scores[POSITION] < 2.5
    assert scores[IDENTITY] < 0.5


def test_a_constant_feature_does_no_harm():
    batch = clips("train", 4, 4)
    probe = fit_feature_probe(torch.ones(4, 4, 3), Digits.of(batch), 32, steps=3)
    assert torch.isfinite(probe.read(torch.ones(1, 1, 3)).position).all()


def test_frames_of_another_size_are_averaged():
    small = MovingMnist(side=32).generate(seed=1, length=1)["image"]
    large = torch.from_numpy(small).repeat_interleave(2, 1).repeat_interleave(2, 2)
    reader = FrameReader(1).eval()
    images = [to_unit(torch.as_tensor(image)).permute(0, 3, 1, 2) for image in (small, large)]
    torch.testing.assert_close(reader(images[0]), reader(images[1]))
