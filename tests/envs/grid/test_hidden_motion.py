"""Hidden Motion: what moves where, what the script sees of it, and what can be told from that."""

import numpy as np
import pytest

from wmkit_envs import Episode, HiddenMotion

WORLD = HiddenMotion()
CONTEXT = WORLD.context_length


@pytest.fixture(scope="module")
def episodes() -> Episode:
    return WORLD.generate_batch(seed=0, indices=range(200))


def place_of(episodes: Episode) -> np.ndarray:
    """(B, T, M): in which cell of its track, 0 to 4, each mover is."""
    return (episodes["mover_pos"] - episodes["mover_tracks"][:, None, :, 0])[..., 0].astype(int)


def test_movers_run_to_and_fro_at_their_pace_whatever_the_agent_does(episodes: Episode) -> None:
    place, paces = place_of(episodes), episodes["mover_paces"]
    assert (episodes["mover_pos"][..., 1] == episodes["mover_tracks"][:, None, :, 0, 1]).all()
    for pace in WORLD.paces:
        path = np.moveaxis(place, 1, -1)[paces == pace]  # (n, T)
        period = 8 * pace
        np.testing.assert_array_equal(path[:, period:], path[:, :-period])
        moved = np.diff(path, axis=1)
        assert set(np.unique(moved).tolist()) == ({-1, 1} if pace == 1 else {-1, 0, 1})
        assert (np.abs(moved[:, : len(moved[0]) // pace * pace].reshape(len(moved), -1, pace)).sum(-1) == 1).all()
        assert (path.min(1) == 0).all()
        assert (path.max(1) == 4).all()


def test_colours_paces_and_places_are_uniform_and_know_nothing_of_each_other() -> None:
    episodes = WORLD.generate_batch(seed=1, indices=range(1500), length=1)
    colors, paces, place = episodes["mover_colors"].ravel(), episodes["mover_paces"].ravel(), place_of(episodes).ravel()
    ways, counts = np.unique(np.stack([colors, paces, place], 1), axis=0, return_counts=True)
    expected = len(colors) / 12 * np.where(np.isin(ways[:, 2], (0, 4)), 1, 2) / 8
    assert len(ways) == 4 * 3 * 5
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected)).all()


def test_the_script_comes_back_to_the_start_where_nothing_that_moves_is_in_view(episodes: Episode) -> None:
    for key in ("agent_pos", "agent_dir"):
        np.testing.assert_array_equal(episodes[key][:, CONTEXT - 1], episodes[key][:, 0])
    assert not episodes["mover_in_view"][:, [0, CONTEXT - 1]].any()
    assert episodes["tiles"].shape[:2] == (200, WORLD.episode_length) == (200, 170)
    assert (episodes["context_length"] == CONTEXT).all()
    assert CONTEXT == 75
    assert not episodes["reward"].any()
    assert not episodes["is_terminal"].any()


def test_every_station_is_visited_in_the_query_after_a_wait_of_random_length(episodes: Episode) -> None:
    x = episodes["agent_pos"][:, CONTEXT:, 0]
    for station in (6, 12):
        assert ((x == station).sum(1) >= WORLD.glance).all()
    waits = (x == 1).argmin(1)  # before the first visit
    assert len(np.unique(waits)) == WORLD.away + 1
    first = np.where((x == 12).any(1), (x == 12).argmax(1), 0) < np.where(x[:, -1] == 12, 50, 0)
    assert 60 < (x[:, -1] == 12).sum() < 140
    assert not first.all()


def test_the_truth_says_what_the_view_shows(episodes: Episode) -> None:
    offset = episodes["mover_pos"] - episodes["agent_pos"][:, :, None]
    column, row = np.moveaxis(offset.astype(int) + 2, -1, 0)
    inside = (column >= 0) & (column < 5) & (row >= 0) & (row < 5)
    np.testing.assert_array_equal(episodes["mover_in_view"], inside)
    b, t, mover = np.nonzero(inside)
    shown = episodes["tiles"][b, t, row[inside], column[inside]]
    np.testing.assert_array_equal(shown, 6 + episodes["mover_colors"][b, mover])
    squares = ((episodes["tiles"] >= 6) & (episodes["tiles"] < 12)).sum((-2, -1))
    np.testing.assert_array_equal(squares, inside.sum(-1))
    seen = episodes["mover_last_seen"]
    for time in (0, 30, CONTEXT - 1, 169):
        for one in range(4):
            steps = [np.flatnonzero(row[: time + 1, one]) for row in inside]
            np.testing.assert_array_equal(seen[:, time, one], [found[-1] if len(found) else -1 for found in steps])


def test_what_the_context_shows_of_a_mover_fits_one_future_only(episodes: Episode) -> None:
    place, in_view = place_of(episodes), episodes["mover_in_view"]
    futures = np.array(
        [4 - np.abs(4 - (np.arange(170) + phase) // pace % 8) for pace in WORLD.paces for phase in range(8 * pace)]
    )
    for one in range(40):
        for mover in range(4):
            seen = np.flatnonzero(in_view[one, :CONTEXT, mover])
            fits = (futures[:, seen] == place[one, seen, mover]).all(1)
            assert fits.sum() == 1
            np.testing.assert_array_equal(futures[fits][0], place[one, :, mover])


def test_settings_change_the_world() -> None:
    world = HiddenMotion(stations=3, paces=(2,), watch=3, away=0, glance=2, colors=("grey",))
    episode = world.generate(seed=0)
    assert (episode["mover_paces"] == 2).all()
    assert (episode["mover_colors"] == 5).all()
    assert episode["mover_tracks"].shape == (6, 5, 2)
    assert episode["map_tiles"].shape == (7, 22)
    assert len(episode["image"]) == world.episode_length
    # without waits the longest query is one without rest at the last station
    lengths = {int((row != 6).sum()) for row in [world.generate(seed=i)["action"].argmax(-1) for i in range(20)]}
    assert len(lengths) > 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("stations", 0),
        ("paces", ()),
        ("paces", 2),
        ("paces", (1, 1)),
        ("paces", (0,)),
        ("paces", (1.5,)),
        ("colors", ("pink",)),
        ("watch", 0),
        ("away", -1),
        ("glance", 0),
    ],
)
def test_settings_that_make_no_world_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{setting}: expected .* got"):
        HiddenMotion(**{setting: value})
