import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit.data import GeneratedEpisodes, PersistentWindows


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), batch=st.integers(1, 3), window=st.integers(1, 4))
def test_each_row_walks_its_episodes_step_by_step(list_source, lengths, batch, window):
    sampler = PersistentWindows(list_source(lengths), batch, window, keys=["agent_pos"])
    batches = list(itertools.islice(sampler, 25))
    for row in range(batch):
        steps = [b.extras["agent_pos"][row][b.mask[row]].int().tolist() for b in batches]
        walked = list(itertools.chain(*steps))
        firsts = torch.cat([b.is_first[row][b.mask[row]] for b in batches]).tolist()
        for (episode, t), (later, u), first in zip(walked, walked[1:], firsts[1:], strict=False):
            assert (later, u) == (episode, t + 1) or (t == lengths[episode] - 1 and u == 0)
            assert first == (u == 0)
        assert walked[0][1] == 0
        assert firsts[0]
    assert not any(b.inner_reset or b.is_first[:, 1:].any() for b in batches)


@given(cursor=st.integers(0, 60))
def test_a_resumed_walk_goes_on_where_it_stopped(list_source, cursor):
    source = list_source([7, 5, 9, 4, 6])
    walked, resumed = (PersistentWindows(source, 2, 3, seed=4) for _ in range(2))
    for _ in range(cursor):
        next(walked)
    resumed.load_state_dict(walked.state_dict())
    for _ in range(4):
        a, b = next(walked), next(resumed)
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.mask, b.mask)


def test_a_short_tail_is_padded_and_the_next_episode_starts_at_column_zero():
    source = GeneratedEpisodes("toy", seed=0)
    batches = list(itertools.islice(PersistentWindows(source, 2, 10), 4))
    assert [b.mask.sum(1).tolist() for b in batches] == [[10, 10], [10, 10], [3, 3], [10, 10]]
    assert [b.is_first[0, 0].item() for b in batches] == [True, False, False, True]
    expected = source.episode(1)
    joined = torch.cat([b.action[1] for b in batches[:3]])[:23]
    assert np.array_equal(joined, expected["action"])
    assert np.array_equal(batches[3].reward[1], source.episode(3)["reward"][:10])


def test_an_epoch_reads_every_episode_once(list_source):
    sampler = PersistentWindows(list_source([4] * 6), 3, 2, seed=1)
    seen = [b.image[:, 0, 0, 0, 0].tolist() for b in itertools.islice(sampler, 8)]
    assert sorted(seen[0] + seen[2]) == sorted(seen[4] + seen[6]) == list(range(6))
    assert seen[0] == seen[1]


def test_an_empty_window_is_refused(list_source):
    with pytest.raises(ValueError, match="length"):
        PersistentWindows(list_source([4]), 1, 0)
