"""The worlds as Gymnasium environments."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import wmkit_envs
from wmkit_envs import ENVIRONMENTS, MemoryMaze, RayHiddenMotion, RayMaze, Rooms
from wmkit_envs.maze3d.env import RayEnv
from wmkit_envs.maze3d.worlds import RayWorld


@pytest.mark.parametrize("env_id", [name for name, world in ENVIRONMENTS.items() if not isinstance(world, MemoryMaze)])
def test_gymnasiums_own_checker_passes(env_id: str) -> None:
    check_env(gymnasium.make(env_id, render_mode="rgb_array").unwrapped, skip_render_check=False)


@pytest.mark.parametrize("name", ["ray_maze_9x9", "ray_two_rooms", "ray_hidden_motion"])
def test_the_generated_actions_lead_to_the_generated_episode(name: str) -> None:
    episode = wmkit_envs.generate(name, seed=4, split="test", index=3, length=120)
    env = RayEnv(wmkit_envs.find_world(name))
    image, info = env.reset(seed=4, options={"split": "test", "index": 3})
    for step in range(120):
        reward = 0.0
        if step:
            image, reward, *_, info = env.step(episode["action"][step].argmax())
        np.testing.assert_array_equal(image, episode["image"][step])
        assert reward == episode["reward"][step]
        for key, value in info.items():
            np.testing.assert_array_equal(value, episode[key] if key in episode.constants else episode[key][step])


def test_a_plain_reset_goes_on_to_the_next_episode_of_the_seed() -> None:
    env = RayEnv(RayMaze())
    env.reset(seed=2)
    image, _ = env.reset()
    np.testing.assert_array_equal(image, wmkit_envs.generate("ray_maze_9x9", seed=2, index=1, length=1)["image"][0])
    image, _ = env.reset(options={"split": "valid"})
    expected = wmkit_envs.generate("ray_maze_9x9", seed=2, split="valid", index=2, length=1)
    np.testing.assert_array_equal(image, expected["image"][0])


def test_environments_without_a_seed_differ() -> None:
    assert len({RayEnv(RayMaze()).reset()[0].tobytes() for _ in range(4)}) > 1


@pytest.mark.parametrize("env_id", ["wmkit/RayMaze-v0", "wmkit/RayTwoRooms-v0"])
def test_an_episode_is_truncated_at_the_worlds_length(env_id: str) -> None:
    env, length = gymnasium.make(env_id, image_size=8), ENVIRONMENTS[env_id].episode_length
    env.reset(seed=0)
    env.action_space.seed(0)
    for step in range(1, length):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        assert not terminated
        assert truncated == (step == length - 1)


def test_info_and_pictures_are_the_callers_to_change() -> None:
    env = RayEnv(RayMaze(), render_mode="rgb_array")
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
    env = RayEnv(Rooms())
    env.reset(seed=0)
    assert env.render() is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"render_mode": "human"}, "render_mode"),
        ({"image_size": 4}, "image_size"),
        ({"size": 10}, "size: expected one of 9, 11"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RayEnv(RayMaze(), **wrong)


def test_a_setting_that_there_is_not_is_a_type_error_as_in_python() -> None:
    with pytest.raises(
        TypeError,
        match=r"unexpected keyword argument 'width'.*expected one of image_size, renderer, physics, plain, size",
    ):
        RayEnv(RayMaze(), width=16)


def test_a_numpy_seed_is_a_seed() -> None:
    env = RayEnv(RayMaze(image_size=8))
    np.testing.assert_array_equal(env.reset(seed=np.int64(3))[0], env.reset(seed=3)[0])


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
        RayEnv(RayMaze()).reset(**arguments)


def test_stepping_before_the_first_reset_is_refused() -> None:
    with pytest.raises(ValueError, match="reset"):
        RayEnv(RayMaze()).step(0)


def test_an_action_that_does_not_exist_is_refused() -> None:
    env = RayEnv(RayMaze())
    env.reset(seed=0)
    for action in (6, 1.7):
        with pytest.raises(ValueError, match=r"action: expected an integer in 0\.\.5, got"):
            env.step(action)


@pytest.mark.reported(
    "machines",
    "Farama-Foundation/Minigrid#153, facebookresearch/nle#91",
    "`deepcopy` and `pickle` of an environment in the middle of an episode",
    "the copies go on as it does",
)
@pytest.mark.parametrize("env_id", ["wmkit/RayMaze-v0", "wmkit/DistractingMemory-v0", "wmkit/MultiDoorsKeys-v0"])
def test_copies_of_an_environment_go_on_as_it_does(env_id: str) -> None:
    env = gymnasium.make(env_id)
    env.reset(seed=3)
    actions = np.random.default_rng(0).integers(0, env.action_space.n, 30)
    for action in actions[:10]:
        env.step(action)
    copies = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    for action in actions[10:]:
        expected = env.step(action)
        for twin in copies:
            found = twin.step(action)
            np.testing.assert_array_equal(found[0], expected[0])
            assert found[1:4] == expected[1:4]


@pytest.mark.parametrize("world", [Rooms(image_size=16), RayMaze(image_size=16), RayHiddenMotion(image_size=16)])
def test_with_extra_obs_an_observation_holds_the_ground_truth(world: RayWorld) -> None:
    env = RayEnv(world, extra_obs=True)
    for observation in (env.reset(seed=0)[0], *(env.step(1)[0] for _ in range(3))):
        assert env.observation_space.contains(observation)
    assert {"image", *env.step(1)[4]} - {"is_first"} == set(observation)


def test_an_environment_says_how_many_steps_a_second_it_takes() -> None:
    assert RayEnv(RayMaze()).metadata["render_fps"] == 4
    assert RayEnv(MemoryMaze(frequency=40)).metadata["render_fps"] == 40
    assert RayEnv.metadata["render_fps"] == 4
