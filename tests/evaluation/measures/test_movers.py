"""Movers read off decoded frames, and what it is worth to know where they were last."""

import pytest
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation.measures.base import Prediction
from wmkit.evaluation.measures.doors import image_of
from wmkit.evaluation.measures.movers import KEYS, PLACE, Movers, Tracks, frozen
from wmkit.evaluation.predictors import MAJORITY, Clips
from wmkit_envs import HiddenMotion

WORLD = HiddenMotion(tile=4)
CONTEXT = WORLD.context_length
COUNT = 12


@pytest.fixture(scope="module")
def episodes() -> Batch:
    source = GeneratedEpisodes(WORLD, seed=0, split="test", num_episodes=COUNT)
    return next(iter(WholeEpisodes(source, COUNT, shuffle=False, epochs=1, keys=KEYS)))


@pytest.fixture(scope="module")
def query(episodes: Batch) -> Batch:
    return episodes.window(CONTEXT, episodes.shape[1])


@pytest.fixture(scope="module")
def frozen_frames(episodes: Batch) -> Tensor:
    frames = frozen(Clips(episodes, CONTEXT, torch.zeros(3, 20, 20), torch.Generator()))
    assert frames is not None
    return torch.stack([frames(row) for row in range(COUNT)])


def share_of(frames: Tensor, query: Batch) -> Tensor:
    return Movers().score(Prediction(None, frames=frames), query)[PLACE.name]


def test_true_frames_show_every_mover_where_it_is_and_all_count_whose_track_is_in_view(query: Batch) -> None:
    shares, counts = share_of(query.image, query), Movers().counts(query)[PLACE.name]
    assert (shares[counts] == 1).all()
    assert shares[~counts].isnan().all()
    # whole tracks are in view at the two stations alone, and never from the start
    x = query.extras["agent_pos"][..., 0]
    assert torch.equal(counts, (x == 6) | (x == 12))


def test_frozen_frames_differ_from_the_true_ones_by_where_movers_are_and_by_nothing_else(
    query: Batch, frozen_frames: Tensor
) -> None:
    known = Tracks.of(query)
    wrong = known.shown & (known.read(frozen_frames) != known.place)
    right = known.shown.any(-1) & ~wrong.any(-1)  # at a station nothing but whole tracks is in view
    start = query.extras["agent_pos"][..., 0] == 1
    for same in (right, start):
        assert same.any()
        assert torch.equal(frozen_frames[same], query.image[same])
    moved = wrong.any(-1)
    assert (frozen_frames[moved] != query.image[moved]).flatten(1).any(1).all()


def test_frozen_movers_stay_where_the_context_saw_them_last(
    episodes: Batch, query: Batch, frozen_frames: Tensor
) -> None:
    last = torch.where(episodes.extras["mover_in_view"][:, :CONTEXT], torch.arange(CONTEXT)[:, None], -1).amax(1)
    at = Tracks.of(episodes).place.gather(1, last[:, None])  # (N, 1, M)
    known = Tracks.of(query)
    place = known.read(frozen_frames)
    assert torch.equal(place[known.shown], at.expand_as(place)[known.shown])


def test_neither_standing_still_nor_the_usual_place_tells_where_a_mover_is(query: Batch, frozen_frames: Tensor) -> None:
    majority = Movers().answers(query)[MAJORITY][PLACE.name]
    for shares in (share_of(frozen_frames, query), majority):
        assert shares.nanmean() < 0.45
    assert share_of(torch.zeros_like(query.image), query).nanmean() < 0.45


def test_a_mover_of_another_colour_is_still_found(query: Batch) -> None:
    known = Tracks.of(query)
    tiles = query.extras["tiles"].long()
    atlas = query.extras["atlas"][0, 0]
    other = torch.where(tiles == 7, 8, torch.where(tiles == 8, 7, tiles))  # green and blue squares
    shares = known.share(known.read(image_of(other, atlas)))
    assert shares.nanmean() > 0.9


def test_episodes_without_movers_have_no_frozen_baseline(episodes: Batch) -> None:
    bare = Batch.of(episodes.image, episodes.action)
    assert frozen(Clips(bare, CONTEXT, torch.zeros(3, 20, 20), torch.Generator())) is None


def test_a_query_that_shows_no_whole_track_has_no_answer(episodes: Batch) -> None:
    """It begins with a wait at the start, from where no track is in view."""
    query = episodes.window(CONTEXT, CONTEXT + 4)
    assert not Movers().counts(query)[PLACE.name].any()
    assert Movers().answers(query)[MAJORITY][PLACE.name].isnan().all()
