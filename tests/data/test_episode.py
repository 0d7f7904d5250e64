"""Whether an array has a time axis is said by its group, on every way that an episode takes."""

import numpy as np
import pytest

from wmkit.data import (
    CachedEpisodes,
    Episode,
    EpisodeStore,
    GeneratedEpisodes,
    WholeEpisodes,
    WorkerError,
    build_cache,
    write_archive,
)
from wmkit.data.loader import WorkerClient

LENGTH = 23
"""Steps of a toy episode, and the length of its constant `as_long`."""


def assert_constant(episode, index):
    assert "as_long" not in episode.steps
    np.testing.assert_array_equal(episode.constants["as_long"], np.arange(LENGTH, dtype=np.float32) + index)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_constant_as_long_as_the_episode_stays_a_constant_wherever_it_goes(tmp_path, workers):
    source = GeneratedEpisodes("toy", seed=0, num_episodes=2)
    archive = write_archive(source, tmp_path / "archive", workers=workers)
    build_cache(archive, tmp_path / "cache", workers=workers)
    for one in (source, EpisodeStore(tmp_path / "archive"), CachedEpisodes(tmp_path / "cache")):
        for index in range(2):
            assert_constant(one.episode(index), index)
        with WholeEpisodes(one, 2, shuffle=False, keys=["as_long", "agent_pos"], workers=workers) as sampler:
            batch = next(sampler)
        assert batch.extras["agent_pos"].shape == (2, LENGTH, 2)
        constant = batch.extras["as_long"]
        assert constant.shape == (2, LENGTH, LENGTH)
        assert constant.stride(1) == 0  # repeated along time without a copy
        np.testing.assert_array_equal(constant[1, 5], np.arange(LENGTH) + 1)
    assert archive.index["schema"]["as_long"] == {"per_step": False, "dtype": "<f4", "shape": [LENGTH]}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_key_of_steps_that_is_not_as_long_as_the_episode_is_refused(workers):
    message = r"Episode 0: late: expected a leading axis of T = 23 steps, got \(22,\); put it into constants"
    with WholeEpisodes(GeneratedEpisodes("toy_timed", seed=0), 1, workers=workers) as sampler:
        with pytest.raises(ValueError, match=message):
            next(sampler)


def test_a_world_that_does_not_say_which_arrays_are_constant_is_told_to():
    source = GeneratedEpisodes("toy_ungrouped", seed=0)
    message = "'toy_12_ungrouped': generate returned a dict, expected .* steps .* and constants"
    with pytest.raises(ValueError, match=message):
        source.episode(0)
    remote = WorkerClient(source, 0)
    with pytest.raises(WorkerError, match=message):
        remote.episode(0)
    remote.close()


def test_an_episode_reads_like_one_dict_and_no_key_is_in_both_groups():
    reward, layout = np.zeros(3, np.float32), np.ones((2, 2))
    episode = Episode({"reward": reward}, {"layout": layout})
    assert [*episode] == ["reward", "layout"]
    assert (len(episode), episode.length, "layout" in episode, "image" in episode) == (2, 3, True, False)
    assert episode["reward"] is reward
    assert episode["layout"] is layout
    with pytest.raises(KeyError, match="image"):
        episode["image"]
    with pytest.raises(ValueError, match=r"\['reward'\] are in steps and in constants"):
        Episode({"reward": reward}, {"reward": reward})
