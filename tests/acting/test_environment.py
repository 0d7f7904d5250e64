"""Imagined environments keep Gymnasium's rules, and imagine what the model does."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from wmkit import Batch, WorldModel, build_world_model, tree
from wmkit.acting import ImaginedVectorEnv

SHAPE = (3, 16, 16)


def make(continue_head: bool = False, reward_head: bool = True, **options: Any) -> WorldModel:
    return build_world_model("gru", "tiny", SHAPE, 3, reward_head=reward_head, continue_head=continue_head, **options)


def starts(rows: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (rows, 5, *SHAPE), dtype=torch.uint8, generator=generator)
    return Batch.of(image, torch.randn(rows, 5, 3, generator=generator))


class First(gymnasium.Env[Any, Any]):
    """The first row of a vector environment, as the checker of single environments wants one."""

    def __init__(self, env: ImaginedVectorEnv) -> None:
        self.env = env
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.env.reset(seed=seed)[0][0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, over, cut, _ = self.env.step(np.asarray(action)[None])
        return seen[0], float(reward[0]), bool(over[0]), bool(cut[0]), {}


@pytest.mark.parametrize("observations", ["features", "frames"])
@pytest.mark.parametrize("space", [None, gymnasium.spaces.Box(-1.0, 1.0, (3,))], ids=["numbers", "vectors"])
def test_a_row_of_it_passes_gymnasiums_checker(observations: str, space: Any) -> None:
    env = ImaginedVectorEnv(make(), starts(), 1, 8, observations=observations, action_space=space)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*A Box observation space m.*mum value is -?infinity")
        check_env(First(env), skip_render_check=True)


def test_steps_are_those_that_the_model_imagines() -> None:
    model = make(latent="gaussian")
    env = ImaginedVectorEnv(model, starts(1), 2, 3)
    seen, _ = env.reset(seed=1)
    model.eval()
    batch = starts(1)
    with torch.no_grad():
        noise = model.draw_noise(1, 5, torch.Generator().manual_seed(0))
        observed, state = model.observe(batch.image, batch.action, noise=noise)
        torch.testing.assert_close(torch.from_numpy(seen), observed.features[:, -1].expand(2, -1))
        generator = torch.Generator().manual_seed(env._generator.initial_seed())
        noise = model.draw_noise(2, 1, generator)
        action = torch.eye(3)[[0, 2]][:, None]
        ahead = model.imagine(action, tree.repeat(state, 2), noise=noise).features[:, 0]
        seen, reward, *_ = env.step(np.array([0, 2]))
        torch.testing.assert_close(torch.from_numpy(seen), ahead)
        torch.testing.assert_close(torch.from_numpy(reward), model.predict_reward(ahead))
    env.close()


def test_an_episode_that_ends_begins_anew_in_the_same_step() -> None:
    model = make(continue_head=True)
    env = ImaginedVectorEnv(model, starts(), 3, horizon=2)
    with torch.no_grad():
        assert model.continues is not None
        list(model.continues.parameters())[-1].fill_(50.0)  # nothing ends
    first, _ = env.reset(seed=0)
    assert first.shape == (3, model.feature_dim)
    _, _, over, cut, info = env.step(np.zeros(3, int))
    assert not over.any()
    assert not cut.any()
    assert not info
    seen, _, over, cut, info = env.step(np.zeros(3, int))
    assert not over.any()
    assert cut.all()
    assert info["_final_obs"].all()
    assert not np.array_equal(info["final_obs"], seen)
    with torch.no_grad():
        list(model.continues.parameters())[-1].fill_(-50.0)  # all does
    _, _, over, cut, info = env.step(np.zeros(3, int))
    assert over.all()
    assert not cut.any()
    env.step(np.zeros(3, int))
    env.reset(options={"reset_mask": np.array([True, False, False])})
    assert env._steps.tolist() == [0, 0, 0]
    env.close()
    assert model.training


def test_rows_are_reset_by_a_mask_and_the_others_go_on() -> None:
    env = ImaginedVectorEnv(make(), starts(), 2, horizon=9)
    env.reset(seed=0)
    before, *_ = env.step(np.zeros(2, int))
    after, _ = env.reset(options={"reset_mask": np.array([True, False])})
    assert not np.array_equal(after[0], before[0])
    assert np.array_equal(after[1], before[1])


def test_what_cannot_be_imagined_in_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one with a reward head"):
        ImaginedVectorEnv(make(reward_head=False), starts(), 1, 8)
    with pytest.raises(ValueError, match=r"expected a Box of shape \(3,\)"):
        ImaginedVectorEnv(make(), starts(), 1, 8, action_space=gymnasium.spaces.Box(-1.0, 1.0, (2,)))
    with pytest.raises(ValueError, match="observations: expected one of features, frames"):
        ImaginedVectorEnv(make(), starts(), 1, 8, observations="pixels")
    with pytest.raises(ValueError, match="horizon"):
        ImaginedVectorEnv(make(), starts(), 1, 0)
