"""Multi Doors Keys: the map, the script, and what can be told from the record of an episode."""

import numpy as np
import pytest

from wmkit_envs import MultiDoorsKeys
from wmkit_envs.grid.multi_doors_keys import context_walk
from wmkit_envs.grid.scene import DONE, FORWARD, KEY, LOCKED, PICK_UP, TOGGLE
from wmkit_envs.world import EpisodeSeed

PUBLISHED = [(3, 76, 174), (5, 170, 380), (7, 296, 654)]


@pytest.mark.parametrize(("keys", "context", "query"), PUBLISHED)
def test_published_lengths_and_open_doors_at_the_end(keys: int, context: int, query: int) -> None:
    world = MultiDoorsKeys(keys=keys)
    episodes = world.generate_batch(seed=0, indices=range(200))
    assert episodes["tiles"].shape == (200, context + query, 5, 5)
    assert (episodes["context_length"] == context).all()
    np.testing.assert_array_equal(episodes["agent_pos"][:, context - 1], episodes["agent_pos"][:, 0])
    assert episodes["door_open"][:, -1].all()
    assert episodes["key_taken"][:, -1].all()
    assert not episodes["keys_held"][:, -1].any()
    assert not episodes["door_open"][:, :context].any()
    assert not episodes["key_taken"][:, :context].any()
    assert not episodes["reward"].any()
    assert not episodes["is_terminal"].any()


@pytest.mark.parametrize("keys", [2, 4, 6, 9])
def test_other_numbers_of_keys_keep_the_invariants(keys: int) -> None:
    world = MultiDoorsKeys(keys=keys)
    episodes = world.generate_batch(seed=1, indices=range(10))
    context = world.context_length
    np.testing.assert_array_equal(episodes["agent_pos"][:, context - 1], episodes["agent_pos"][:, 0])
    assert episodes["door_open"][:, -1].all()


def test_doors_stay_open_keys_stay_taken_and_every_key_is_held_until_it_is_spent() -> None:
    episodes = MultiDoorsKeys(keys=4).generate_batch(seed=2, indices=range(20))
    for key in ("door_open", "key_taken"):
        assert (np.diff(episodes[key].astype(int), axis=1) >= 0).all()
    held = episodes["key_taken"].sum(-1) - episodes["door_open"].sum(-1)
    np.testing.assert_array_equal(episodes["keys_held"].sum(-1), held)


def test_keys_and_doors_have_the_same_colours_in_different_orders() -> None:
    episodes = MultiDoorsKeys(keys=5).generate_batch(seed=3, indices=range(100))
    doors, keys = episodes["door_colors"], episodes["key_colors"]
    np.testing.assert_array_equal(np.sort(doors, 1), np.sort(keys, 1))
    assert (doors != keys).any()
    maps, x = episodes["map_tiles"], episodes["keys_pos"][0, :, 0].astype(int)
    np.testing.assert_array_equal(maps[:, 4, x] - LOCKED, doors)
    np.testing.assert_array_equal(maps[:, 9, x] - KEY, keys)
    assert maps.shape == (100, 13, 21)


def test_the_query_visits_a_key_and_two_doors_in_turn_and_then_every_door() -> None:
    world = MultiDoorsKeys(keys=3)
    for index in range(30):
        actions = world.script(EpisodeSeed(4, "train", index))[world.context_length - 1 :]
        visits = [action for action in actions if action in (PICK_UP, TOGGLE)]
        assert visits == [PICK_UP, TOGGLE, TOGGLE] * 3 + [TOGGLE] * 3
        busy = np.flatnonzero(actions != DONE)[-1] + 1
        assert (actions[:busy] != DONE).all()


def test_keys_lie_in_any_order_and_are_fetched_in_any_order() -> None:
    episodes = MultiDoorsKeys(keys=3).generate_batch(seed=6, indices=range(1200))
    keys, doors = episodes["key_colors"], episodes["door_colors"]
    for place in keys.T:  # each of four colours 300 times: four deviations
        assert np.abs(np.bincount(place)[1:] - 300).max() < 60
    three = np.array([len(set(row)) == 3 for row in doors.tolist()])
    assert three.sum() > 400
    # where the key of each door's colour lies; the orders that pick the keys up
    lies = (keys[three, :, None] == doors[three, None]).argmax(1)
    fetched = episodes["key_taken"].argmax(1).argsort(1)
    for orders in (lies, fetched):
        ways, counts = np.unique(orders, axis=0, return_counts=True)
        assert len(ways) == 6
        # queries that are too long are drawn again, which prefers some orders a little
        assert np.abs(counts / len(orders) - 1 / 6).max() < 0.06


def test_the_context_tries_every_door_and_never_turns_around_in_the_corridor() -> None:
    for mirrored in (False, True):
        actions = context_walk(7, mirrored, 0).actions
        assert len(actions) == 295
        assert actions.count(TOGGLE) == 7
        assert PICK_UP not in actions
        assert actions.count(FORWARD) == 4 * 7**2 - 4 + 7 * 6


def test_most_queries_fit_at_once() -> None:
    for keys in (2, 3, 5, 8):
        world, fitting = MultiDoorsKeys(keys=keys), 0
        for index in range(60):
            walk = context_walk(keys, False, 0)
            walk.query(np.random.default_rng(index))
            fitting += len(walk.actions) <= world.episode_length - 1
        assert fitting > 40, keys


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("keys", 1),
        ("keys", 0),
        ("colors", ()),
        ("colors", ("pink",)),
        ("alcove_depth", 0),
        ("alcove_depth", 2.5),
        ("turn_around", 2),
        ("idle_action", 7),
        ("mirrored", "False"),
    ],
)
def test_settings_that_make_no_world_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{setting}: expected .* got"):
        MultiDoorsKeys(**{setting: value})


def test_no_episodes_are_no_batch() -> None:
    with pytest.raises(ValueError, match="indices: expected at least one"):
        MultiDoorsKeys(keys=3).generate_batch(seed=0, indices=[])


def test_settings_change_the_world() -> None:
    world = MultiDoorsKeys(keys=4, mirrored=True, alcove_depth=2, colors=("red",))
    episodes = world.generate_batch(seed=0, indices=range(5))
    assert episodes["map_tiles"].shape[1:] == (11, 17)
    assert (episodes["door_colors"] == 0).all()
    assert (episodes["agent_dir"][:, 0] == (-1, 0)).all()
    assert episodes["door_open"][:, -1].all()


def test_deeper_alcoves_change_no_picture_of_the_script() -> None:
    one, other = (MultiDoorsKeys(keys=3, alcove_depth=depth).generate(seed=5)["image"] for depth in (2, 3))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("keys", [2, 3, 4, 6])
def test_a_mirrored_world_has_episodes_of_the_same_length(keys: int) -> None:
    usual, mirrored = MultiDoorsKeys(keys=keys), MultiDoorsKeys(keys=keys, mirrored=True)
    assert mirrored.episode_length == usual.episode_length
    assert mirrored.generate(seed=0)["door_open"][-1].all()
