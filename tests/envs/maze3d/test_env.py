"""The worlds as Gymnasium environments."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import wmkit_envs
from wmkit_envs import WORLDS
from wmkit_envs.maze3d.env import RayEnv

IDS = [world.id for world in WORLDS.values()]


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_own_checker_passes(env_id: str) -> None:
    check_env(gymnasium.make(env_id, render_mode="rgb_array").unwrapped, skip_render_check=False)


@pytest.mark.parametrize("name", ["ray_maze_9x9", "ray_two_rooms"])
def test_the_generated_actions_lead_to_the_generated_episode(name: str) -> None:
    episode = wmkit_envs.generate(name, seed=4, split="test", index=3, length=120)
    env = RayEnv(name)
    image, info = env.reset(seed=4, options={"split": "test", "index": 3})
    for step in range(120):
        reward = 0.0
        if step:
            image, reward, *_, info = env.step(episode["action"][step].argmax())
        np.testing.assert_array_equal(image, episode["image"][step])
        assert reward == episode["reward"][step]
        for key, value in info.items():
            is_constant = key in ("maze_layout", "targets_pos")
            np.testing.assert_array_equal(value, episode[key] if is_constant else episode[key][step])


def test_a_plain_reset_goes_on_to_the_next_episode_of_the_seed() -> None:
    env = RayEnv("ray_maze_9x9")
    env.reset(seed=2)
    image, _ = env.reset()
    np.testing.assert_array_equal(image, wmkit_envs.generate("ray_maze_9x9", seed=2, index=1, length=1)["image"][0])
    image, _ = env.reset(options={"split": "valid"})
    expected = wmkit_envs.generate("ray_maze_9x9", seed=2, split="valid", index=2, length=1)
    np.testing.assert_array_equal(image, expected["image"][0])


def test_environments_without_a_seed_differ() -> None:
    assert len({RayEnv("ray_maze_9x9").reset()[0].tobytes() for _ in range(4)}) > 1


@pytest.mark.parametrize("name", ["ray_maze_9x9", "ray_two_rooms"])
def test_an_episode_is_truncated_at_the_worlds_length(name: str) -> None:
    env = gymnasium.make(WORLDS[name].id, image_size=8)
    env.reset(seed=0)
    env.action_space.seed(0)
    for step in range(1, WORLDS[name].episode_length):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        assert not terminated
        assert truncated == (step == WORLDS[name].episode_length - 1)


def test_info_and_pictures_are_the_callers_to_change() -> None:
    env = RayEnv("ray_maze_9x9", render_mode="rgb_array")
    image, info = env.reset(seed=0)
    kept = {key: value.copy() for key, value in info.items()}
    for value in info.values():
        value[...] = 0
    image[:] = 0
    np.testing.assert_array_equal(env.reset(seed=0)[1]["maze_layout"], kept["maze_layout"])
    picture = env.render()
    assert picture is not None
    assert picture.any()


def test_vector_environments_can_be_made() -> None:
    vector = gymnasium.make_vec("wmkit/RayMaze-9x9-v0", num_envs=2, vectorization_mode="sync", image_size=16)
    images, _ = vector.reset(seed=0)
    assert images.shape == (2, 16, 16, 3)
    vector.close()


def test_without_a_render_mode_nothing_is_rendered() -> None:
    env = RayEnv("ray_two_rooms")
    env.reset(seed=0)
    assert env.render() is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"render_mode": "human"}, "render_mode"),
        ({"image_size": 4}, "picture size"),
        ({"world": "maze"}, "Unknown world"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RayEnv(**({"world": "ray_maze_9x9"} | wrong))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -3}, "seed"),
        ({"seed": 0, "options": {"spilt": "test"}}, "spilt"),
        ({"options": {"split": "dev"}}, "split"),
    ],
)
def test_wrong_resets_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RayEnv("ray_maze_9x9").reset(**arguments)


def test_stepping_before_the_first_reset_is_refused() -> None:
    with pytest.raises(ValueError, match="reset"):
        RayEnv("ray_maze_9x9").step(0)


def test_an_action_that_does_not_exist_is_refused() -> None:
    env = RayEnv("ray_maze_9x9")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(6)
