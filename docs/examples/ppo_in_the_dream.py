"""Stable-Baselines3 in the dream: `Dream` makes one of their vector environments of an `ImaginedVectorEnv`.

from stable_baselines3 import PPO
agent = PPO("MlpPolicy", Dream(ImaginedVectorEnv(model, starts, num_envs=16, horizon=20))).learn(50_000)
"""

import numpy as np
from stable_baselines3.common.vec_env import VecEnv


class Dream(VecEnv):
    """What their agents step through; rows begin anew by themselves."""

    def __init__(self, env):
        self.env, self.actions = env, None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self):
        return self.env.reset(seed=self._seeds[0])[0]

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        seen, reward, over, cut, more = self.env.step(self.actions)
        infos = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(over | cut):
            infos[row] = {"terminal_observation": more["final_obs"][row], "TimeLimit.truncated": bool(cut[row])}
        return seen, reward, over | cut, infos

    def close(self):
        self.env.close()

    def get_attr(self, attr_name, indices=None):
        return [getattr(self.env, attr_name, None)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name, value, indices=None):
        raise NotImplementedError("one environment steps all rows: they have no attributes of their own")

    def env_method(self, method_name, *method_args, indices=None, **method_kwargs):
        raise NotImplementedError("one environment steps all rows: they have no methods of their own")

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * len(list(self._get_indices(indices)))
