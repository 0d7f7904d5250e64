"""A Gymnasium vector environment whose steps are imagined by a world model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor
from torch.nn import functional as F

from wmkit import tree
from wmkit.batch import Batch, check_type
from wmkit.checks import check_choice, check_integer
from wmkit.evaluation.rollout import groups_of_rows, in_eval, rows_of
from wmkit.world_model import WorldModel

FEATURES, FRAMES = "features", "frames"
Array = npt.NDArray[Any]


class ImaginedVectorEnv(VectorEnv[Array, Array, Array]):
    """Episodes that begin where real ones have been read up to, and go on in imagination.

    At a reset each row gets the state after one of the contexts in `starts`, chosen by the environment's seed. A step
    follows its action on a sample of the prior; the reward is that of the reward head, the episode has terminated where
    the continue head (if there is one) says so with a probability above 1/2, and is truncated after `horizon` steps.
    Observations are `features` (F,) float32 or decoded `frames` (H, W, C) uint8; actions are numbers of actions, which
    the model reads one-hot, or those of `action_space`, a Box of shape (A,).

    A row whose episode has ended is reset in the same step (`AutoresetMode.SAME_STEP`): `info["final_obs"]` has its
    last observation, where `info["_final_obs"]` says so. What is learnt of rewards and ends must be trained:
    `model.reward_head=true model.continue_head=true`. A backbone that computes tables for single steps (`s4`) is much
    faster inside of `with model.prepared():`, where no parameter may change.
    """

    metadata = {  # noqa: RUF012  # Gymnasium's type says that it is an instance's
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    def __init__(
        self,
        model: WorldModel,
        starts: Batch,
        num_envs: int,
        horizon: int,
        *,
        observations: str = FEATURES,
        action_space: gymnasium.spaces.Box | None = None,
    ) -> None:
        """starts: contexts (N, C, ...), whole episodes cut to what is to be read.

        Raises `ValueError` for a model without a reward head, an action space of another width, and numbers below 1.
        """
        check_type(starts)
        check_choice("observations", observations, (FEATURES, FRAMES))
        if model.reward is None:
            raise ValueError("model: expected one with a reward head; train it with model.reward_head=true")
        if action_space is not None and action_space.shape != (model.action_dim,):
            raise ValueError(f"action_space: expected a Box of shape ({model.action_dim},), got {action_space}")
        self.model, self.num_envs = model, check_integer("num_envs", num_envs, 1)
        self.horizon, self.observations = check_integer("horizon", horizon, 1), observations
        self.single_action_space = action_space or gymnasium.spaces.Discrete(model.action_dim)
        channels, height, width = model.image_shape
        self.single_observation_space = (
            gymnasium.spaces.Box(-np.inf, np.inf, (model.feature_dim,), np.float32)
            if observations == FEATURES
            else gymnasium.spaces.Box(0, 255, (height, width, channels), np.uint8)
        )
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        generator = torch.Generator().manual_seed(0)
        states, features = [], []
        with in_eval(model), torch.no_grad(), model.prepared():
            for group in groups_of_rows(starts):
                part = rows_of(starts, group).to(model.device)
                before = model.initial_state(part.shape[0], part.shape[1])
                noise = model.draw_noise(*part.shape, generator)
                seen, state = model.observe(part.image, part.action, part.is_first, state=before, noise=noise)
                states.append(state)
                features.append(seen.features[:, -1])
        self._states = tree.map_tree(lambda *leaves: torch.cat(leaves), *states)
        self._features = torch.cat(features)  # (N, F)
        self._steps = np.zeros(num_envs, np.int64)
        self._generator = torch.Generator()

    def reset(self, *, seed: Any = None, options: Mapping[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """All rows begin anew; or those of `options["reset_mask"]` (num_envs,) bool."""
        if seed is not None or not self._generator.initial_seed():
            super().reset(seed=seed)
            self._generator.manual_seed(int(self.np_random.integers(1, 2**31)))
        mask = None if options is None else options.get("reset_mask")
        if mask is None:
            self.state, self.features = self._start(self.num_envs)
            self._steps[:] = 0
        else:
            self._restart(np.asarray(mask, bool))
        with in_eval(self.model), torch.no_grad():
            return self._observation(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Imagine a step of every row: observations, rewards (float32), terminated, truncated, info."""
        given = torch.as_tensor(np.asarray(actions), device=self.model.device)
        if isinstance(self.single_action_space, gymnasium.spaces.Discrete):
            given = F.one_hot(given.long(), self.model.action_dim)
        with in_eval(self.model), torch.no_grad():
            noise = self.model.draw_noise(self.num_envs, 1, self._generator)
            ahead = self.model.imagine(given[:, None].to(self.model.dtype), self.state, noise=noise)
            self.state, self.features = ahead.state, ahead.features[:, 0]
            self._steps += 1
            reward = _numpy(self.model.predict_reward(self.features))
            ends = self.model.continues is not None
            over = _numpy(self.model.predict_continue(self.features)) < 0.5 if ends else np.zeros(self.num_envs, bool)
            truncated = (self._steps >= self.horizon) & ~over
            observation, info, done = self._observation(), {}, over | truncated
            if done.any():
                info = {"final_obs": observation, "_final_obs": done}
                self._restart(done)
                observation = self._observation()
            return observation, reward, over, truncated, info

    def _start(self, rows: int) -> tuple[tree.State, Tensor]:
        """States and features of so many contexts, drawn with replacement."""
        chosen = torch.from_numpy(self.np_random.integers(len(self._features), size=rows)).to(self._features.device)
        return tree.index(self._states, chosen), self._features[chosen]

    def _restart(self, which: Array) -> None:
        """Rows `which` (num_envs,) bool begin anew."""
        state, features = self._start(self.num_envs)
        mask = torch.from_numpy(which).to(features.device)
        self.state = tree.where(mask, state, self.state)
        self.features = torch.where(mask[:, None], features, self.features)
        self._steps[which] = 0

    def _observation(self) -> Array:
        if self.observations == FEATURES:
            return _numpy(self.features)
        frames = self.model.decode(self.features).permute(0, 2, 3, 1)  # (B, H, W, C)
        return _numpy((255 * frames).round().clamp(0, 255)).astype(np.uint8)


def _numpy(x: Tensor) -> Array:
    """On the host, float32, in memory of its own."""
    return x.detach().float().cpu().numpy().copy()
