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
        opening = walked[0][0]
        for n, ((episode, t), (later, u), first) in enumerate(zip(walked, walked[1:], firsts[1:], strict=False)):
            cut_short = episode == opening and n == t and (t + 1) % window == 0
            assert (later, u) == (episode, t + 1) or ((t == lengths[episode] - 1 or cut_short) and u == 0)
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
    batches = list(itertools.islice(PersistentWindows(source, 2, 10), 5))
    assert [b.mask.sum(1).tolist() for b in batches] == [[10, 10], [10, 10], [10, 3], [10, 10], [3, 10]]
    assert [b.is_first[:, 0].tolist() for b in batches[:4]] == [[1, 1], [0, 0], [1, 0], [0, 1]]
    joined = torch.cat([b.action[1] for b in batches[:3]])[:23]
    assert np.array_equal(joined, source.episode(1)["action"])
    assert np.array_equal(batches[3].reward[1], source.episode(3)["reward"][:10])


@given(batch=st.integers(1, 12), windows=st.integers(1, 6))
def test_rows_are_spread_over_the_places_of_an_episode(list_source, batch, windows):
    sampler = PersistentWindows(list_source([2 * windows] * 12), batch, 2)
    later = list(itertools.islice(sampler, 3 * windows))[windows:]
    for batch_of_rows in later:
        starting = int(batch_of_rows.is_first[:, 0].sum())
        assert batch // windows <= starting <= -(-batch // windows)


def test_of_its_first_episode_a_row_reads_a_share_and_nothing_else_of_any_other(list_source):
    sampler = PersistentWindows(list_source([8] * 4), 4, 2, keys=["agent_pos"])
    steps = torch.cat([b.extras["agent_pos"] for b in itertools.islice(sampler, 8)], dim=1)
    lengths = [[int(n) for n in row[:, 0].int().unique_consecutive(return_counts=True)[1]] for row in steps]
    assert [row[:2] for row in lengths] == [[2, 8], [4, 8], [6, 8], [8, 8]]


def test_an_epoch_reads_every_episode_once(list_source):
    sampler = PersistentWindows(list_source([4] * 6), 3, 2, seed=1)
    batches = list(itertools.islice(sampler, 9))
    seen = [[int(b.image[row, 0, 0, 0, 0]) for b in batches if b.is_first[row, 0]] for row in range(3)]
    assert (
        sorted(row[n] for row in seen for n in (0, 1))
        == sorted(row[n] for row in seen for n in (2, 3))
        == list(range(6))
    )


def test_an_empty_window_is_refused(list_source):
    with pytest.raises(ValueError, match="length"):
        PersistentWindows(list_source([4]), 1, 0)
