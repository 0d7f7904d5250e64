"""A world without actions goes the same way as any other: workers, archive, cache, every sampler."""

import pytest
import torch

from wmkit.data import (
    CachedEpisodes,
    EpisodeStore,
    PersistentWindows,
    RandomWindows,
    WholeEpisodes,
    build_cache,
    check_batch,
    open_source,
    restore_world,
    write_archive,
)
from wmkit_envs import MovingMnist

KEYS = ("digit_pos", "digit_identity")


@pytest.fixture(scope="module")
def source():
    return open_source(MovingMnist(side=32), length=12, num_episodes=3)


@pytest.fixture(scope="module")
def archive(source, tmp_path_factory):
    return write_archive(source, tmp_path_factory.mktemp("video") / "archive")


def first_batch(source, workers=0):
    with RandomWindows(source, 2, 8, keys=KEYS, workers=workers) as sampler:
        return next(sampler)


def same(one, other):
    assert torch.equal(one.image, other.image)
    assert one.action.shape == other.action.shape == (2, 8, 0)
    assert all(torch.equal(one.extras[key], other.extras[key]) for key in KEYS)


def test_a_batch_holds_pictures_of_one_channel_and_no_action(source):
    batch = first_batch(source)
    check_batch(batch)
    assert batch.image.shape == (2, 8, 1, 32, 32)
    assert batch.action.shape == (2, 8, 0)


def test_what_an_episode_holds_once_is_at_every_step_of_the_batch(source):
    batch = first_batch(source)
    assert batch.extras["digit_pos"].shape == (2, 8, 2, 2)
    assert batch.extras["digit_identity"].shape == (2, 8, 2)
    # even where there are as many steps as digits
    short = next(WholeEpisodes(open_source(MovingMnist(side=32), length=2, num_episodes=1), 1, keys=KEYS))
    assert short.extras["digit_identity"].shape == (1, 2, 2)
    assert torch.equal(short.extras["digit_identity"][:, 0], short.extras["digit_identity"][:, 1])


def test_workers_archive_and_cache_give_the_same_batches(source, archive, tmp_path):
    expected = first_batch(source)
    same(first_batch(source, workers=1), expected)
    same(first_batch(archive), expected)
    same(first_batch(build_cache(archive, tmp_path / "cache")), expected)


def test_stored_videos_know_their_shapes_and_are_whole(archive, tmp_path):
    build_cache(archive, tmp_path / "cache")
    for stored in (EpisodeStore(archive.path), CachedEpisodes(tmp_path / "cache")):
        assert (stored.image_shape, stored.action_dim) == ((1, 32, 32), 0)
        assert not stored.verify()
    assert restore_world(archive.origin["world"]) == MovingMnist(side=32)


def test_persistent_windows_walk_through_a_video(source):
    assert next(PersistentWindows(source, 2, 6, keys=KEYS)).action.shape == (2, 6, 0)
