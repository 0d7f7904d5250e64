"""Libraries that act in the worlds: `pip install "wmkit[clients]"` brings them; a test skips where its own lacks."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from torch import nn

import wmkit_envs

SMALL: dict[str, dict[str, Any]] = {
    "wmkit/RayMaze-v0": {"image_size": 20},
    "wmkit/RayTwoRooms-v0": {"image_size": 20},
    "wmkit/RayLookAround-v0": {"image_size": 20},
    "wmkit/RayHiddenMotion-v0": {"image_size": 20},
    "wmkit/DistractingMemory-v0": {"image_size": 20, "width": 8},
    "wmkit/MultiDoorsKeys-v0": {"image_size": 20, "keys": 2},
    "wmkit/HiddenMotion-v0": {"image_size": 20, "stations": 1},
}
"""A small world of each family in which one can act."""
LARGE_ENOUGH = {"image_size": 40}
"""For the network of stable-baselines3."""
families = pytest.mark.parametrize("env_id", SMALL)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Warnings of other people's code are not ours to fail on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@families
def test_the_checkers_of_gymnasium_and_stable_baselines_find_nothing(env_id: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker", reason="needs stable-baselines3")
    env = gymnasium.make(env_id, render_mode="rgb_array", **SMALL[env_id] | LARGE_ENOUGH).unwrapped
    check_env(env, skip_render_check=False)
    checker.check_env(env)  # warnings are errors here


@pytest.mark.long
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", ["PPO", "RecurrentPPO"])
@families
def test_agents_of_stable_baselines_learn_for_two_thousand_steps(env_id: str, name: str) -> None:
    library = "stable_baselines3" if name == "PPO" else "sb3_contrib"
    algorithm = getattr(pytest.importorskip(library, reason=f"needs {library}"), name)
    policy = "CnnPolicy" if name == "PPO" else "CnnLstmPolicy"
    env = gymnasium.make(env_id, **SMALL[env_id] | LARGE_ENOUGH)
    agent = algorithm(policy, env, n_steps=250, batch_size=50, n_epochs=1, seed=0)
    before = [x.detach().clone() for x in agent.policy.parameters()]
    agent.learn(2000)
    assert agent.num_timesteps == 2000
    assert any(not torch.equal(x, y) for x, y in zip(before, agent.policy.parameters(), strict=True))


@pytest.mark.usefixtures("quiet")
@families
def test_torchrl_opens_the_worlds_by_name_and_reads_their_info(env_id: str) -> None:
    envs = pytest.importorskip("torchrl.envs", reason="needs torchrl")
    env = envs.GymEnv(env_id, **SMALL[env_id]).auto_register_info_dict()
    envs.check_env_specs(env, seed=0)
    rollout = env.rollout(5)
    assert rollout["next", "pixels"].shape == (5, 20, 20, 3)
    assert rollout["next", "is_first"].flatten().tolist() == [False] * 5
    assert rollout["next", "agent_pos"].shape == (5, 2)


@pytest.mark.usefixtures("quiet")
@families
def test_torchrl_wraps_several_worlds_at_once(env_id: str) -> None:
    envs = pytest.importorskip("torchrl.envs", reason="needs torchrl")
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}  # the one that it asks for
    several = gymnasium.make_vec(env_id, 2, **SMALL[env_id], **{"vector_kwargs": mode} if "Ray" in env_id else mode)
    env = envs.GymWrapper(several)
    assert env.rollout(4)["next", "observation"].shape == (2, 4, 20, 20, 3)
    env.close()


@pytest.mark.usefixtures("quiet")
@families
def test_minari_collects_the_scripts_episodes(env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari", reason="needs minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    collector = minari.DataCollector(gymnasium.make(env_id, **SMALL[env_id]), jpeg_encoding=False)
    world = collector.unwrapped.world
    episodes = [world.generate(seed=0, index=index, length=20) for index in range(2)]
    for number, episode in enumerate(episodes):
        collector.reset(seed=0, options={"index": number})  # without a seed it draws one of its own
        for action in episode["action"][1:].argmax(-1):
            collector.step(action)
    found = collector.create_dataset("wmkit/script-v0")
    collector.close()
    for mine, theirs in zip(found.iterate_episodes(), episodes, strict=True):
        np.testing.assert_array_equal(mine.observations, theirs["image"])
        np.testing.assert_array_equal(mine.actions, theirs["action"][1:].argmax(-1))
        np.testing.assert_array_equal(mine.rewards, theirs["reward"][1:])


@families
def test_a_loop_like_cleanrls_takes_the_vector_environment_as_it_is(env_id: str) -> None:
    """Its PPO in small: statistics from the wrapper, frames to a network, done masks, one step of the optimiser."""
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(
        gymnasium.make_vec(env_id, num_envs=3, render_mode="rgb_array", **SMALL[env_id])
    )
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(20 * 20 * 3, 16), nn.Tanh())
    actor, critic = nn.Linear(16, envs.single_action_space.n), nn.Linear(16, 1)
    optimiser = torch.optim.Adam([*network.parameters(), *actor.parameters(), *critic.parameters()], lr=1e-3)
    image, _ = envs.reset(seed=1)
    done, terms = torch.zeros(3), []
    for _ in range(12):
        features = network(torch.as_tensor(image).float() / 255)
        policy = torch.distributions.Categorical(logits=actor(features))
        action = policy.sample()
        image, reward, terminated, truncated, info = envs.step(action.numpy())
        advantage = torch.as_tensor(reward).float() - critic(features)[:, 0] * (1 - done)
        terms.append(advantage.square().mean() - (policy.log_prob(action) * advantage.detach()).mean())
        done = torch.as_tensor(terminated | truncated).float()
        assert info["is_first"].dtype == np.bool_
    loss = torch.stack(terms).mean()
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    assert len(envs.render()) == 3
    envs.close()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "context",
    ["fork", pytest.param("spawn", marks=pytest.mark.long), pytest.param("forkserver", marks=pytest.mark.long)],
)
def test_environments_in_processes_of_their_own_do_what_they_do_in_one(context: str) -> None:
    # with the module before its colon an id is known in a process that has imported nothing
    env_id = "wmkit_envs:wmkit/DistractingMemory-v0"
    makers = [functools.partial(gymnasium.make, env_id, width=8, tile=4)] * 2
    apart = gymnasium.vector.AsyncVectorEnv(makers, context=context)
    together = gymnasium.vector.SyncVectorEnv(makers)
    try:
        np.testing.assert_array_equal(apart.reset(seed=0)[0], together.reset(seed=0)[0])
        for action in (2, 0, 2, 2, 6):
            mine, theirs = (env.step(np.array([action] * 2)) for env in (apart, together))
            for one, other in zip(mine[:4], theirs[:4], strict=True):
                np.testing.assert_array_equal(one, other)
            assert mine[4].keys() == theirs[4].keys()
    finally:
        apart.close()
        together.close()


def test_all_families_in_which_one_can_act_are_tried() -> None:
    acting = {type(world) for world in wmkit_envs.ENVIRONMENTS.values()} - {wmkit_envs.MemoryMaze}
    # which is checked in tests/envs/maze3d/test_memory_maze.py, where MuJoCo can draw
    assert {type(gymnasium.make(env_id).unwrapped.world) for env_id in SMALL} == acting
