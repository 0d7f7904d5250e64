import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit import build_world_model, list_backbones
from wmkit.data import GeneratedEpisodes, PersistentWindows, RandomWindows, WholeEpisodes, check_batch


def take(sampler, count):
    return list(itertools.islice(sampler, count))


def same(a, b):
    assert a.inner_reset == b.inner_reset
    for key in ("image", "action", "reward", "is_first", "is_terminal", "mask"):
        assert torch.equal(getattr(a, key), getattr(b, key)), key


def makers():
    return {
        "whole": lambda source, batch, seed: WholeEpisodes(source, batch, seed=seed),
        "windows": lambda source, batch, seed: RandomWindows(source, batch, 4, seed=seed),
    }


@pytest.mark.parametrize("kind", list(makers()))
@given(cursor=st.integers(0, 30), seed=st.integers(0, 5), batch=st.integers(1, 4))
def test_resuming_at_any_cursor_goes_on_with_the_same_batches(list_source, kind, cursor, seed, batch):
    source = list_source([7, 5, 9, 4, 6])
    whole = makers()[kind](source, batch, seed)
    take(whole, cursor)
    resumed = makers()[kind](source, batch, seed)
    resumed.load_state_dict(whole.state_dict())
    for a, b in zip(take(whole, 3), take(resumed, 3), strict=True):
        same(a, b)


@pytest.mark.parametrize("kind", list(makers()))
def test_ranks_together_hold_the_global_batch(list_source, kind):
    source = list_source([7, 5, 9, 4, 6])
    alone = makers()[kind](source, 4, 0)
    ranks = [makers()[kind](source, 4, 0).shard(rank, 2) for rank in range(2)]
    for _ in range(9):
        whole, parts = next(alone), [next(rank) for rank in ranks]
        assert torch.equal(whole.image, torch.cat([part.image for part in parts]))
        assert torch.equal(whole.mask, torch.cat([part.mask for part in parts]))


def test_an_unequal_share_is_refused(list_source):
    with pytest.raises(ValueError, match="equal share of 4 rows"):
        WholeEpisodes(list_source([3]), 4).shard(0, 3)


def test_a_resumed_order_must_be_the_same_order(list_source):
    state = RandomWindows(list_source([7, 9]), 2, 4, seed=0).state_dict()
    with pytest.raises(ValueError, match="length was 4, is 5 now"):
        RandomWindows(list_source([7, 9]), 2, 5, seed=0).load_state_dict(state)


def test_whole_episodes_are_padded_and_masked(list_source):
    batch = next(WholeEpisodes(list_source([3, 5]), 2, shuffle=False))
    assert batch.mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch.image[0, 3:].eq(0).all()
    assert batch.action[0, 3:].eq(0).all()
    assert batch.is_first.tolist() == [[True, False, False, False, False]] * 2
    assert not batch.is_terminal[0, 3:].any()
    assert not batch.inner_reset


def test_one_epoch_gives_every_episode_once(list_source):
    batches = list(WholeEpisodes(list_source([3] * 7), 3, seed=1, epochs=1))
    assert [len(batch.image) for batch in batches] == [3, 3, 1]
    seen = torch.cat([batch.image[:, 0, 0, 0, 0] for batch in batches]).tolist()
    assert sorted(seen) == list(range(7))
    assert seen != list(range(7))


def test_epochs_are_shuffled_differently(list_source):
    sampler = WholeEpisodes(list_source([3] * 6), 6, seed=1)
    first, second = (batch.image[:, 0, 0, 0, 0].tolist() for batch in take(sampler, 2))
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


def test_epochs_of_an_endless_source_are_refused():
    with pytest.raises(ValueError, match="endless"):
        WholeEpisodes(GeneratedEpisodes("toy", seed=0), 2, epochs=1)


def test_a_window_is_a_piece_of_one_episode_read_as_an_episode_of_its_own():
    source = GeneratedEpisodes("toy", seed=0)
    for batch in take(RandomWindows(source, 4, 6, seed=0, keys=["agent_pos"]), 8):
        for row in range(4):
            index, start = (int(v) for v in batch.extras["agent_pos"][row, 0])
            window = slice(start, start + 6)
            episode = source.episode(index)
            assert np.array_equal(batch.image[row].permute(0, 2, 3, 1), episode["image"][window])
            assert np.array_equal(batch.action[row, 1:], episode["action"][window][1:])
            assert np.array_equal(batch.reward[row], episode["reward"][window])
        assert batch.action[:, 0].eq(0).all()
        assert batch.is_first[:, 0].all()
        assert not batch.is_first[:, 1:].any()
        assert batch.mask.all()


def test_a_block_gives_each_episode_its_windows_and_no_batch_shows_an_episode_twice():
    sampler = RandomWindows(GeneratedEpisodes("toy", seed=0), 2, 6, seed=0, block_episodes=4, keys=["agent_pos"])
    assert sampler.windows_per_episode == 4
    episodes = [batch.extras["agent_pos"][:, 0, 0].int().tolist() for batch in take(sampler, 16)]
    assert all(len(set(rows)) == 2 for rows in episodes)
    assert sorted(itertools.chain(*episodes[:8])) == sorted([0, 1, 2, 3] * 4)
    assert sorted(itertools.chain(*episodes[8:])) == sorted([4, 5, 6, 7] * 4)


def test_window_starts_cover_the_whole_episode():
    sampler = RandomWindows(GeneratedEpisodes("toy", seed=0), 8, 20, seed=0, keys=["agent_pos"])
    starts = {int(s) for batch in take(sampler, 16) for s in batch.extras["agent_pos"][:, 0, 1]}
    assert starts == {0, 1, 2, 3}


def test_an_episode_shorter_than_the_window_is_padded(list_source):
    batch = next(RandomWindows(list_source([2, 5]), 2, 5, seed=0))
    assert sorted(batch.mask.sum(1).tolist()) == [2, 5]


def test_a_window_longer_than_every_episode_is_refused():
    with pytest.raises(ValueError, match="expected 1 to 23"):
        RandomWindows(GeneratedEpisodes("toy", seed=0), 2, 24)


def test_a_block_must_be_whole_batches():
    with pytest.raises(ValueError, match="multiple of batch_size 2"):
        RandomWindows(GeneratedEpisodes("toy", seed=0), 2, 5, block_episodes=3)


def test_an_empty_source_is_refused(list_source):
    with pytest.raises(ValueError, match="no episodes"):
        WholeEpisodes(list_source([]), 2)


def test_frames_are_channels_last_in_memory():
    image = next(WholeEpisodes(GeneratedEpisodes("toy", seed=0), 2)).image
    assert image.shape == (2, 23, 3, 8, 12)
    assert image.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_ground_truth_comes_when_asked_for(list_source):
    batch = next(WholeEpisodes(list_source([3, 5]), 2, shuffle=False, keys=["agent_pos", "context_length"]))
    assert batch.extras["agent_pos"].shape == (2, 5, 2)
    assert batch.extras["context_length"].tolist() == [[0] * 5, [1] * 5]
    assert batch.window(1, 3).extras["context_length"].tolist() == [[0] * 2, [1] * 2]
    with pytest.raises(ValueError, match=r"no 'agent'.*agent_pos"):
        next(WholeEpisodes(list_source([3]), 1, keys=["agent"]))


def test_a_reset_inside_an_episode_is_announced(list_source):
    source = list_source([5])
    source.episodes[0]["is_first"][3] = True
    assert next(WholeEpisodes(source, 1)).inner_reset


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


@pytest.mark.reported(
    "shapes",
    "stable-worldmodel#102, kimiyoung/transformer-xl#75",
    "episodes of 1, of 1 to 3 and of 40 steps, with every sampler and backbone",
    "finite losses",
)
@pytest.mark.parametrize("backbone", [*list_backbones("backbone"), *list_backbones("dynamics")])
@pytest.mark.parametrize("lengths", [[1, 1], [1, 3, 2], [40, 1]])
@torch.no_grad()
def test_episodes_of_any_length_can_be_learnt_from(list_source, backbone, lengths):
    source = list_source(lengths)
    source.image_shape = (3, 8, 8)
    for episode in source.episodes:
        episode.steps["image"] = episode.steps["image"].repeat(2, 1).repeat(2, 2)  # the smallest that models take
    model = build_world_model(backbone, "tiny", (3, 8, 8), 2, reward_head=True, first_step="model")
    for sampler in (
        WholeEpisodes(source, 2),
        RandomWindows(source, 2, max(lengths)),
        PersistentWindows(source, 2, 4),
    ):
        batch = next(sampler)
        check_batch(batch)
        assert torch.isfinite(model.loss(batch, noise=model.draw_noise(*batch.shape)).total)


@pytest.mark.reported(
    "shapes", "", "a sampler with 2.5 rows or steps, a seed of 1.5, or `keys` as one text", "`ValueError`, by name"
)
def test_numbers_of_a_sampler_are_whole_and_keys_are_a_list(list_source):
    source = list_source([5, 6])
    for make in (
        lambda **given: WholeEpisodes(source, **{"batch_size": 1, **given}),
        lambda **given: RandomWindows(source, **{"batch_size": 1, "length": 3, **given}),
        lambda **given: PersistentWindows(source, **{"batch_size": 1, "length": 3, **given}),
    ):
        for name, value in (("batch_size", 2.5), ("batch_size", 0), ("seed", 1.5), ("seed", -1)):
            with pytest.raises(ValueError, match=f"{name}: expected"):
                make(**{name: value})
        with pytest.raises(ValueError, match=r"keys: expected a list of names, got 'agent_pos'; write \['agent_pos'\]"):
            make(keys="agent_pos")
    for kind in (RandomWindows, PersistentWindows):
        with pytest.raises(ValueError, match=r"length: expected a whole number of at least 1, got 2.5"):
            kind(source, 1, 2.5)
