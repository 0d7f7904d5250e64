"""Distracting Memory: the map, the script, and what the reward depends on."""

import numpy as np
import pytest

from wmkit_envs import DistractingMemory
from wmkit_envs.grid.scene import EMPTY, NUM_COLORS, SQUARE, WALL
from wmkit_envs.world import Episode, EpisodeSeed


@pytest.fixture(scope="module")
def many() -> Episode:
    """10,000 episodes: a share of all of them is off by 0.005, one standard deviation."""
    return DistractingMemory(width=16).generate_batch(seed=1, indices=range(10_000))


@pytest.mark.parametrize(("width", "context", "query"), [(100, 199, 51), (200, 399, 101), (400, 799, 201)])
def test_published_lengths_and_the_return_to_the_start(width: int, context: int, query: int) -> None:
    world = DistractingMemory(width=width)
    episodes = world.generate_batch(seed=0, indices=range(200))
    assert episodes["tiles"].shape == (200, context + query, 5, 5)
    assert (episodes["context_length"] == context).all()
    for key in ("agent_pos", "agent_dir"):
        np.testing.assert_array_equal(episodes[key][:, context - 1], episodes[key][:, 0])
    # the episode ends with its last observation, not before
    assert episodes["is_terminal"][:, -1].all()
    assert not episodes["is_terminal"][:, :-1].any()


def turned_down(episodes: Episode) -> np.ndarray:
    """(B,) int: whether the episode ends at the lower exit."""
    return (episodes["agent_pos"][:, -1, 1] == 5).astype(int)


def test_reward_is_one_exactly_when_the_colours_match_and_half_of_the_time(many: Episode) -> None:
    lower = turned_down(many)
    chosen = np.take_along_axis(many["target_colors"], lower[:, None], 1)[:, 0]
    reward = many["reward"]
    np.testing.assert_array_equal(reward[:, -1] == 1, chosen == many["sample_color"])
    assert not reward[:, :-1].any()
    assert set(np.unique(reward)) == {0, 1}
    assert abs(reward[:, -1].mean() - 0.5) < 0.02
    assert abs(lower.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(lower == many["answer"], reward[:, -1] == 1)


def test_the_query_alone_does_not_tell_the_reward(many: Episode) -> None:
    """The final turn and the targets are seen there; without the sample either reward is as likely."""
    lower, answer, reward = turned_down(many), many["answer"], many["reward"][:, -1]
    assert abs(answer.mean() - 0.5) < 0.02
    for turn in (0, 1):
        assert abs(reward[lower == turn].mean() - 0.5) < 0.03
    # 4 x 3 pairs of colours, turns and answers go with each other in all 48 ways, 208 times each: four deviations
    ways, counts = np.unique(np.column_stack([many["target_colors"], lower, answer]), axis=0, return_counts=True)
    assert len(ways) == 48
    assert np.abs(counts - len(lower) / 48).max() < 58


def test_the_map_and_the_final_turn_are_drawn_from_streams_of_their_own() -> None:
    class Mixed(EpisodeSeed):
        """Draws its scene from seed 0 and its policy from seed 1."""

        def streams(self, *kind: int) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator]:
            scene, goals, _ = super().streams(*kind)
            return scene, goals, EpisodeSeed(1, self.split, self.index).streams(*kind)[2]

    world = DistractingMemory(width=8)
    for index in range(40):
        scene, policy, mixed = EpisodeSeed(0, index=index), EpisodeSeed(1, index=index), Mixed(0, index=index)
        np.testing.assert_array_equal(world.begin(mixed).cells, world.begin(scene).cells)
        np.testing.assert_array_equal(world.script(mixed), world.script(policy))


def test_the_sample_is_seen_in_the_context_and_not_in_the_query() -> None:
    world = DistractingMemory(width=40)
    episodes = world.generate_batch(seed=2, indices=range(50))
    away = np.abs(episodes["agent_pos"] - episodes["sample_pos"][:, None]).max(-1)
    assert (away[:, : world.context_length].min(1) <= 2).all()
    assert (away[:, world.context_length - 1 :].min(1) > 2).all()
    # so are both targets, at the hall's end
    assert (episodes["agent_pos"][:, : world.context_length, 0].max(1) == 38).all()


def test_distractors_fill_half_of_the_hall_with_four_colours() -> None:
    world = DistractingMemory(width=100)
    maps = np.stack([world.begin(EpisodeSeed(3, "train", index)).cells for index in range(300)])
    hall = maps[:, 4, 4:97]
    squares = hall[hall >= SQUARE] - SQUARE
    assert abs(len(squares) / hall.size - 0.5) < 0.02
    assert np.unique(squares).tolist() == [1, 2, 3, 4]
    assert np.ptp(np.bincount(squares)[1:]) < 0.1 * len(squares)


def test_targets_differ_and_every_sample_cell_is_used() -> None:
    world = DistractingMemory(width=8)
    episodes = world.generate_batch(seed=4, indices=range(500))
    assert (episodes["target_colors"][:, 0] != episodes["target_colors"][:, 1]).all()
    assert set(map(tuple, episodes["sample_pos"].astype(int).tolist())) == set(world.sample_cells)
    assert (episodes["target_colors"] == episodes["sample_color"][:, None]).any(1).all()


def test_the_map_has_the_rooms_of_the_video() -> None:
    """At width 20; T: target, s: sample or empty, d: distractor or empty."""
    rows = [
        "####################",
        "#................#.#",
        "#####............#T#",
        "#sss##############.#",
        "#...ddddddddddddd..#",
        "#sss##############.#",
        "#####............#T#",
        "#................#.#",
        "####################",
    ]
    squares = set(range(SQUARE, SQUARE + NUM_COLORS))
    allowed = {"#": {WALL}, ".": {EMPTY}, "T": squares, "s": squares | {EMPTY}, "d": squares | {EMPTY}}
    for index in range(20):
        cells = DistractingMemory(width=20).begin(EpisodeSeed(0, "train", index)).cells
        assert cells.shape == (9, 20)
        for (y, x), tile in np.ndenumerate(cells):
            assert tile in allowed[rows[y][x]], (x, y)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("width", 6),
        ("width", 15),
        ("width", 0),
        ("width", 16.0),
        ("tile", 3),
        ("tile", 65),
        ("tile", 4.0),
        ("distractor_rate", 7),
        ("distractor_rate", float("nan")),
        ("distractor_colors", ()),
        ("target_colors", ("red", "red")),
        ("target_colors", ("red",)),
        ("target_colors", ("red", "pink")),
        ("last_distractor", 2),
        ("last_distractor", 14),
        ("last_distractor", 4.5),
        ("sample_cells", ()),
        ("sample_cells", ((4, 3),)),
        ("sample_cells", 3),
        ("sample_cells", ((3, [5]),)),
        ("distractor_rate", "0.2"),
        ("epsilon", 1.5),
        ("epsilon", "0.2"),
        ("distractor_rate", None),
        ("target_colors", None),
        ("target_colors", "red"),
        ("target_colors", (["red"], "blue")),
    ],
)
def test_settings_that_make_no_world_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{setting}: expected .* got"):
        DistractingMemory(**{"width": 16, setting: value})


def test_epsilon_draws_the_last_two_actions_of_training_episodes_and_rewards_the_exits_alone() -> None:
    straying = DistractingMemory(width=16, epsilon=0.5)
    episodes = straying.generate_batch(seed=3, indices=range(4000))
    action = episodes["action"].argmax(-1)  # (B, T)
    scripted = DistractingMemory(width=16).generate_batch(seed=3, indices=range(4000))
    np.testing.assert_array_equal(action[:, :-2], scripted["action"].argmax(-1)[:, :-2])
    for place, greedy in ((-2, np.isin(action[:, -2], (0, 1))), (-1, action[:, -1] == 2)):
        share = 0.5 + 0.5 * (2 / 7 if place == -2 else 1 / 7)
        assert abs(greedy.mean() - share) < 0.04, place
    assert set(np.unique(action[:, -2:])) == set(range(7))
    left = np.abs(episodes["agent_pos"][:, -1] - (14, 4)).sum(-1) == 1  # by the upper exit or the lower one
    assert not episodes["reward"][~left].any()
    assert abs(episodes["reward"][left, -1].mean() - 0.5) < 0.05
    np.testing.assert_array_equal(episodes["is_terminal"][:, -1], left)
    for split in ("valid", "test"):
        held_out = straying.generate_batch(seed=3, split=split, indices=range(50))
        assert held_out["is_terminal"][:, -1].all()


def test_settings_change_what_is_drawn() -> None:
    bare = DistractingMemory(width=16, distractor_rate=0.0, target_colors=("red", "blue"))
    episodes = bare.generate_batch(seed=0, indices=range(20))
    assert set(np.unique(episodes["target_colors"])) == {0, 2}
    assert (episodes["map_tiles"][:, 4, 4:13] == 0).all()
