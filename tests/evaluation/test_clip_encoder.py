"""The encoder of clips: what its faults are, and that it learns to tell them."""

import pytest
import torch

from wmkit.data import Episodes, GeneratedEpisodes
from wmkit.evaluation import clip_encoder
from wmkit.evaluation.clip_encoder import FAULTS, ClipEncoder, cut, fit_clip_encoder, frozen, mixed, shuffled, small
from wmkit_envs import MovingMnist


@pytest.fixture
def clips():
    return torch.rand(2, 3, 6, 1, 32, 32)  # two sets of 3 clips


def late(*begins: int) -> torch.Tensor:
    return (torch.arange(6) >= torch.tensor(begins)[:, None])[..., None, None, None]


def test_a_fault_begins_where_it_is_said_to(clips):
    clip, other = clips
    begins = (1, 3, 5)
    for fault in FAULTS:
        shown = fault(clip, other, late(*begins))
        assert shown.shape == clip.shape
        for row, begin in enumerate(begins):
            before = torch.equal(shown[row, :begin], clip[row, :begin])
            after = torch.equal(shown[row, begin:], clip[row, begin:])
            assert before or fault is shuffled
            assert after == (fault is clip_encoder.sound) or fault is shuffled


def test_frozen_cut_mixed_and_shuffled_are_what_they_are_called(clips):
    clip, other = clips
    begin = late(2, 2, 2)
    torch.testing.assert_close(frozen(clip, other, begin)[:, 2:], clip[:, 1:2].expand(-1, 4, -1, -1, -1))
    torch.testing.assert_close(cut(clip, other, begin)[:, 2:], other[:, 2:])
    torch.testing.assert_close(mixed(clip, other, begin)[:, 2:], (clip[:, 2:] + other[:, 2:]) / 2)
    means = shuffled(clip, other, begin).mean((2, 3, 4))
    torch.testing.assert_close(means.sort(1).values, clip.mean((2, 3, 4)).sort(1).values)
    assert not torch.equal(means, clip.mean((2, 3, 4)))


def test_an_encoder_of_few_steps_tells_faults_and_is_the_same_again(monkeypatch):
    monkeypatch.setattr(clip_encoder, "POOL", 128)
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0, length=24)
    encoder = fit_clip_encoder(source, 8, steps=60)
    clips = torch.cat([torch.from_numpy(source.episode(500 + i).steps["image"][None, :8]) for i in range(32)])
    clips = small(clips.permute(0, 1, 4, 2, 3))
    half = (torch.arange(8) >= 4)[None, :, None, None, None].expand(32, -1, 1, 1, 1)
    shown = torch.stack([fault(clips, clips.roll(1, 0), half) for fault in FAULTS])
    named = encoder.head(encoder(shown.flatten(0, 1))).argmax(-1).reshape(len(FAULTS), -1)
    right = (named == torch.arange(len(FAULTS))[:, None]).float().mean()
    assert right > 0.4  # chance is 0.125
    threads, digests = torch.get_num_threads(), []
    for number, steps in ((1, 2), (2, 2), (1, 3)):
        torch.set_num_threads(number)
        digests.append(fit_clip_encoder(source, 8, steps=steps).digest)
        assert torch.get_num_threads() == number
    torch.set_num_threads(threads)
    assert digests[0] == digests[1] != digests[2]


def test_long_episodes_are_found_among_short_ones(monkeypatch):
    monkeypatch.setattr(clip_encoder, "POOL", 64)
    world = MovingMnist(side=32)
    mixed = [dict(GeneratedEpisodes(world, seed=0, length=length).episode(0)) for length in (*[6] * 300, 20)]
    with pytest.warns(UserWarning, match="no actions|Copies"):
        source = Episodes(mixed)
    assert fit_clip_encoder(source, 16, steps=2).digest
    with pytest.raises(ValueError, match="training episodes of 21 steps or more: there are none"):
        fit_clip_encoder(source, 21, steps=2)


def test_frames_of_any_size_and_kind_are_averaged_to_32():
    clip = torch.randint(256, (2, 4, 3, 64, 48), dtype=torch.uint8)
    assert small(clip).shape == (2, 4, 3, 32, 32)
    encoder = ClipEncoder(3)
    torch.testing.assert_close(encoder(clip), encoder(clip / 255))
    assert encoder(clip).shape == (2, clip_encoder.WIDTH)
