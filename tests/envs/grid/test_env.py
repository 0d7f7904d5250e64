"""The tile worlds as MiniGrid environments and as vector environments."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from minigrid.core.grid import Grid
from minigrid.core.world_object import Floor, Goal
from minigrid.minigrid_env import MiniGridEnv

from wmkit_envs import DistractingMemory, HiddenMotion, MultiDoorsKeys
from wmkit_envs.grid.env import GridEnv, Square, object_of, tile_of
from wmkit_envs.grid.scene import AGENT, NUM_TILES, SQUARE
from wmkit_envs.grid.vector_env import GridVectorEnv
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.world import EpisodeSeed


@pytest.mark.parametrize(
    ("env_id", "settings"),
    [("DistractingMemory", {"width": 16}), ("DistractingMemory-100", {}), ("MultiDoorsKeys", {"keys": 2, "tile": 4})],
)
def test_a_world_of_any_size_can_be_made_and_passes_gymnasiums_checker(env_id: str, settings: dict[str, int]) -> None:
    env = gymnasium.make(f"wmkit/{env_id}-v0", render_mode="rgb_array", **settings)
    assert isinstance(env.unwrapped, MiniGridEnv)
    check_env(env.unwrapped, skip_render_check=False)


RECORDED = {"image", "tiles", "atlas", "action", "reward", "is_terminal", "context_length"}
"""What episodes hold and an environment returns otherwise."""


@pytest.mark.parametrize(
    "world", [DistractingMemory(width=16), MultiDoorsKeys(), HiddenMotion(tile=4)], ids=lambda world: world.name
)
def test_the_generated_actions_lead_to_the_generated_episode(world: GridWorld) -> None:
    episode = world.generate(seed=4, split="test", index=3)
    env = GridEnv(world)
    image, info = env.reset(seed=4, options={"split": "test", "index": 3})
    reward, terminated = 0.0, False
    for step in range(len(episode["image"])):
        if step:
            image, reward, terminated, _, info = env.step(episode["action"][step].argmax())
        np.testing.assert_array_equal(image, episode["image"][step])
        assert (reward, terminated) == (episode["reward"][step], episode["is_terminal"][step])
        for key, value in info.items():
            np.testing.assert_array_equal(value, episode[key] if key in episode.constants else episode[key][step])
    assert episode.keys() - info.keys() <= {*RECORDED, "map_tiles", "mover_last_seen"}


def test_a_generated_batch_holds_the_generated_episodes() -> None:
    world = MultiDoorsKeys(tile=4)
    batch = world.generate_batch(seed=1, split="valid", indices=[7, 2], length=90)
    for row, index in enumerate([7, 2]):
        episode = world.generate(seed=1, split="valid", index=index, length=90)
        for key, value in batch.items():
            np.testing.assert_array_equal(value[row], episode[key], err_msg=key)
        assert set(episode) - set(batch) == {"image", "atlas"}
    whole = world.generate(seed=1, split="valid", index=7)
    np.testing.assert_array_equal(
        whole["image"][:90], world.generate(seed=1, split="valid", index=7, length=90)["image"]
    )


def test_a_plain_reset_goes_on_to_the_next_episode_of_the_seed() -> None:
    env = GridEnv(DistractingMemory(width=16))
    env.reset(seed=2)
    env.reset()
    _, info = env.reset(options={"split": "valid"})
    expected = DistractingMemory(width=16).generate(seed=2, split="valid", index=2, length=1)
    for key in ("target_colors", "sample_pos"):
        np.testing.assert_array_equal(info[key], expected[key])


def test_environments_without_a_seed_differ() -> None:
    # Two first pictures are the same one time in ninety, eight of them never.
    assert len({GridEnv(DistractingMemory(width=40)).reset()[0].tobytes() for _ in range(8)}) > 1


def test_the_view_is_drawn_in_the_size_asked_for() -> None:
    env = gymnasium.make("wmkit/DistractingMemory-100-v0", tile=4)
    assert env.reset(seed=0)[0].shape == (20, 20, 3) == env.observation_space.shape
    assert GridEnv(DistractingMemory(width=16, tile=4)).observation_space.shape == (20, 20, 3)
    assert GridEnv(DistractingMemory(width=16)).observation_space.shape == (40, 40, 3)


def test_settings_reach_the_environments() -> None:
    single = gymnasium.make("wmkit/DistractingMemory-v0", width=16, distractor_rate=0.0, tile=4)
    several = gymnasium.make_vec("wmkit/DistractingMemory-v0", num_envs=2, width=16, distractor_rate=0.0, tile=4)
    for world in (single.unwrapped.world, several.world):
        assert world == DistractingMemory(width=16, distractor_rate=0.0, tile=4)
        assert (world.generate(seed=0)["map_tiles"][4, 4:13] == 0).all()
    assert GridEnv(several.world, last_distractor=5).world == several.world.with_settings(last_distractor=5)
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(
            TypeError, match=r"unexpected keyword argument 'distractors'.*expected one of image_size, .*width"
        ):
            make("wmkit/DistractingMemory-v0", distractors=0.0)


def test_another_size_of_a_published_world_has_a_length_of_its_own() -> None:
    env = gymnasium.make("wmkit/MultiDoorsKeys-3-v0", keys=2, tile=4)
    vector = gymnasium.make_vec("wmkit/MultiDoorsKeys-3-v0", num_envs=1, keys=2, tile=4)
    env.reset(seed=0)
    vector.reset(seed=0)
    steps = MultiDoorsKeys(keys=2).episode_length - 1
    ends = [(env.step(6)[3], bool(vector.step(np.array([6]))[3][0])) for _ in range(steps)]
    assert ends == [(False, False)] * (steps - 1) + [(True, True)]


def test_rendering_shows_the_whole_map() -> None:
    env = GridEnv(MultiDoorsKeys(), render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (13 * 8, 13 * 8, 3)
    silent = GridEnv(MultiDoorsKeys())
    silent.reset(seed=0)
    assert silent.render() is None


def test_an_episode_without_an_end_is_truncated() -> None:
    env = gymnasium.make("wmkit/MultiDoorsKeys-3-v0", tile=4)
    env.reset(seed=0)
    ends = [env.step(6)[2:4] for _ in range(249)]
    assert ends == [(False, False)] * 248 + [(False, True)]


def test_squares_neither_take_nor_leave_pictures_in_minigrids_store() -> None:
    Grid.tile_cache.clear()
    floor = Grid.render_tile(Floor("blue"), tile_size=8).copy()
    square = Grid.render_tile(Square("blue"), tile_size=8)
    np.testing.assert_array_equal(square, Grid.render_tile(Goal("blue"), tile_size=8))
    np.testing.assert_array_equal(floor, Grid.render_tile(Floor("blue"), tile_size=8))
    assert not np.array_equal(floor, square)


def test_objects_and_tiles_translate_both_ways() -> None:
    for tile in (*range(AGENT), *range(SQUARE, NUM_TILES)):
        assert tile_of(object_of(tile)) == tile


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, dict):
            assert_same(value, other[key])
        elif value.dtype == object:
            assert [item is None for item in value] == [item is None for item in other[key]]
            for mine, theirs in zip(value, other[key], strict=True):
                np.testing.assert_array_equal(mine, theirs)
        else:
            assert value.dtype == other[key].dtype
            np.testing.assert_array_equal(value, other[key], err_msg=key)


@pytest.mark.reported(
    "machines",
    "Farama-Foundation/Gymnasium#1103, #914, #885, #1112",
    "`make_vec` in every autoreset mode, with manual resets",
    "what Gymnasium makes of single environments",
)
@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("DistractingMemory", {"width": 8, "tile": 4}),
        ("MultiDoorsKeys", {"keys": 2}),
        ("HiddenMotion", {"stations": 1, "tile": 4, "watch": 8}),
    ],
)
def test_the_vector_environment_is_what_gymnasium_makes_of_single_ones(
    family: str, settings: dict[str, Any], mode: AutoresetMode
) -> None:
    env_id, side = f"wmkit/{family}-v0", 5 * settings.get("tile", 8)
    settings |= {"render_mode": "rgb_array"}
    ours = gymnasium.make_vec(env_id, num_envs=3, autoreset_mode=mode, **settings)
    theirs = gymnasium.make_vec(
        env_id, num_envs=3, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **settings
    )
    assert ours.single_observation_space.shape == (side, side, 3)
    assert isinstance(ours, GridVectorEnv)
    assert ours.metadata["autoreset_mode"] is ours.autoreset_mode is theirs.autoreset_mode is mode
    assert ours.metadata == theirs.metadata
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    first, expected = ours.reset(seed=4), theirs.reset(seed=4)
    np.testing.assert_array_equal(first[0], expected[0])
    assert_same(first[1], expected[1])
    rng, ends, begins = np.random.default_rng(1), 0, np.zeros(3, np.bool_)
    for _ in range(300):
        actions = rng.choice(7, size=3, p=[0.15, 0.15, 0.5, 0.1, 0.02, 0.06, 0.02])
        step, expected = ours.step(actions), theirs.step(actions)
        for mine, other in zip(step[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(mine, other)
        assert_same(step[4], expected[4])
        if rng.random() < 0.1:
            np.testing.assert_array_equal(ours.render(), theirs.render())
        ended = step[2] | step[3]
        ends += ended.sum()
        begins = {"NextStep": begins, "SameStep": ended, "Disabled": np.zeros(3, np.bool_)}[mode.value]
        np.testing.assert_array_equal(step[4]["is_first"], begins)
        begins = ended
        if mode is AutoresetMode.DISABLED and ended.any():
            first, expected = (env.reset(options={"reset_mask": ended.copy()}) for env in (ours, theirs))
            np.testing.assert_array_equal(first[0], expected[0])
            assert_same(first[1], expected[1])
            np.testing.assert_array_equal(first[1]["is_first"], ended)
    assert ends > 3


def test_the_first_observation_after_an_end_is_marked_in_next_step_mode() -> None:
    env = gymnasium.make_vec("wmkit/MultiDoorsKeys-v0", num_envs=2, keys=2)
    limit = MultiDoorsKeys(keys=2).episode_length - 1
    env.reset(seed=0)
    firsts = [env.step(np.array([6, 6]))[4]["is_first"].tolist() for _ in range(limit + 2)]
    assert firsts == [[False, False]] * limit + [[True, True], [False, False]]


def test_rows_can_be_given_seeds_and_settings_of_ones_own() -> None:
    world = MultiDoorsKeys(colors=("red", "grey"))
    env = GridVectorEnv(2, world=world, tile=4)
    pictures, info = env.reset(seed=[5, None], options={"split": "test", "index": 9})
    expected = world.generate(seed=5, split="test", index=9, length=1)
    np.testing.assert_array_equal(info["door_colors"][0], expected["door_colors"])
    assert pictures.shape == (2, 20, 20, 3)
    _, info = env.reset(options={"reset_mask": np.array([True, False])})
    np.testing.assert_array_equal(
        info["door_colors"][0], world.generate(seed=5, split="test", index=10, length=1)["door_colors"]
    )
    assert info["_door_colors"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 9}, "even number"),
        ({"tile": 3}, "tile: expected an integer in 4..64"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridEnv(DistractingMemory(width=16), **wrong)
    if "render_mode" not in wrong:
        with pytest.raises(ValueError, match=message):
            GridVectorEnv(2, world=DistractingMemory(width=16), **wrong)


def test_a_numpy_seed_is_a_seed() -> None:
    world = DistractingMemory(width=8)
    for env in (GridVectorEnv(2, world=world), GridEnv(world)):
        np.testing.assert_array_equal(env.reset(seed=np.int64(3))[0], env.reset(seed=3)[0])
        first = env.reset(seed=np.uint8(3), options={"index": np.int32(4)})[0]
        np.testing.assert_array_equal(first, env.reset(seed=3, options={"index": 4})[0])


def test_without_a_render_mode_several_environments_draw_no_map() -> None:
    env = GridVectorEnv(2, world=DistractingMemory(width=8))
    with pytest.raises(ValueError, match="reset"):
        env.render()
    env.reset(seed=0)
    assert env.render() is None


def test_an_agent_that_wastes_steps_can_still_follow_the_script_and_the_end_is_no_cut() -> None:
    world = DistractingMemory(width=8)
    script = world.script(EpisodeSeed(0))
    for wasted in (0, 1, len(script)):
        env = GridEnv(world)
        env.reset(seed=0)
        ends = [env.step(action)[2:4] for action in [6] * wasted + script.tolist()]
        assert ends == [(False, False)] * (len(ends) - 1) + [(True, False)]
    env.reset(seed=0)
    assert [env.step(6)[3] for _ in range(2 * len(script))] == [False] * (2 * len(script) - 1) + [True]


@pytest.mark.reported(
    "numbers",
    "Minigrid#509, minerllabs/minerl#14, openai/gym#250, minihack#53",
    '`reset` of several environments with `seed="12"`, 1.5, [1.5, 2] or [-1, 2]',
    "`ValueError`: whole numbers; nothing is cut off or taken letter by letter",
)
@pytest.mark.parametrize("seed", ["12", 1.5, [1.5, 2], ["1", "2"], [-1, 2], [np.float64(1), 2], -1, {"a": 1, "b": 2}])
def test_seeds_of_several_environments_are_whole_numbers(seed: Any) -> None:
    vector = GridVectorEnv(2, world=DistractingMemory(width=8))
    with pytest.raises(ValueError, match=r"seed: expected (a whole number, or 2 of them|an integer of at least 0)"):
        vector.reset(seed=seed)
    vector.reset(seed=[np.int64(1), None])
    vector.reset(seed=np.array([1, 2]))


@pytest.mark.reported(
    "numbers",
    "Minigrid#509, minerllabs/minerl#14, openai/gym#250, minihack#53",
    '`reset` of one environment with `seed="12"` or 1.5',
    "`ValueError`: an integer",
)
@pytest.mark.parametrize("seed", ["12", 1.5])
def test_the_seed_of_an_environment_is_a_whole_number(seed: Any) -> None:
    env = GridEnv(DistractingMemory(width=8))
    with pytest.raises(ValueError, match="seed: expected an integer of at least 0, got"):
        env.reset(seed=seed)
    env.reset(seed=2**127)


def test_wrong_calls_are_refused() -> None:
    env, vector = GridEnv(DistractingMemory(width=8)), GridVectorEnv(2, world=DistractingMemory(width=8))
    for call in (lambda: env.step(0), env.render, lambda: vector.step(np.array([0, 0]))):
        with pytest.raises(ValueError, match="reset"):
            call()
    with pytest.raises(ValueError, match="first reset"):
        vector.reset(options={"reset_mask": np.array([True, False])})
    for mask in (np.array([True]), [True, False], np.zeros(2, np.bool_)):
        with pytest.raises(ValueError, match="reset_mask"):
            vector.reset(options={"reset_mask": mask})
    with pytest.raises(ValueError, match="seed"):
        vector.reset(seed=[1, 2, 3])
    env.reset(seed=0)
    vector.reset(seed=0)
    for action in (7, 1.7, "2"):
        with pytest.raises(ValueError, match=r"action: expected an integer in 0\.\.6, got"):
            env.step(action)
    for actions in (np.array([0, 7]), np.array([0.0, 6.9])):
        with pytest.raises(ValueError, match="actions"):
            vector.step(actions)
    with pytest.raises(ValueError, match="num_envs: expected an integer of at least 1, got 0"):
        GridVectorEnv(0, world=DistractingMemory(width=8))
    for wrong in (env, vector):
        with pytest.raises(ValueError, match="spilt"):
            wrong.reset(options={"spilt": "test"})


def test_stepping_an_ended_row_without_autoreset_is_refused() -> None:
    env = GridVectorEnv(1, world=DistractingMemory(width=8), max_episode_steps=2, autoreset_mode="Disabled")
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.array([6]))
    with pytest.raises(ValueError, match=r"rows \[0\] have ended"):
        env.step(np.array([6]))


def test_a_limit_of_minus_one_is_none() -> None:
    env = GridVectorEnv(1, world=DistractingMemory(width=8), max_episode_steps=-1)
    env.reset(seed=0)
    assert not any(env.step(np.array([6]))[3].any() for _ in range(40))
