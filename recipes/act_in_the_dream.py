"""Acting by memory: at the end of Distracting Memory's hall, two steps are chosen in the dream and taken in the world.

    python recipes/distracting_memory.py run_dir=runs/corridor world.epsilon=0.3 train.steps=4500 train.threads=1
    python recipes/act_in_the_dream.py runs/corridor    # five minutes; the training of S4 takes fifteen, of a core

With `world.epsilon` some of the last two actions are drawn at random: a model that has seen the script's endings alone
dreams rewards for others too, and an agent that is trained in such dreams finds them.

The model reads the scripted walk, from the sample at the far left to the end of the hall. There the last two actions,
of MiniGrid's seven, decide whether the agent leaves by the target of the sample's colour, which has reward 1. Agents:

- random actions; a turn at random, as the script has it
- CEM: plans by the cross-entropy method in what the model imagines, and plans again after a step
- CEM without memory: the same, from a state that has read the last frame alone
- PPO of Stable-Baselines3 (`pip install "stable-baselines3>=2.9"`), trained in the dream alone, by `ImaginedVectorEnv`

Each takes its steps in MiniGrid's environment, on episodes that the model has not seen. Beside the reward in the world
stands the one that the agent had in the dream.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from wmkit import Batch, WorldModel, load, tree
from wmkit.acting import Filter, ImaginedVectorEnv
from wmkit.data import GeneratedEpisodes
from wmkit.evaluation.estimates import binomial
from wmkit.evaluation.tables import Table
from wmkit.files import to_json, write_text
from wmkit.loading import run_config
from wmkit.training.short import is_short
from wmkit.tree import State
from wmkit_envs import DistractingMemory
from wmkit_envs.grid.env import GridEnv
from wmkit_envs.grid.scene import FORWARD, TURN_LEFT, TURN_RIGHT

LAST = 2
"""Steps that are the agent's."""
Agent = Callable[[Tensor, State, int], Tensor]
"""(features (B, F), state of B rows, which of the last steps) -> numbers of actions (B,)."""


def main() -> int:
    """Print the table of agents; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder of recipes/distracting_memory.py")
    parser.add_argument("--episodes", type=int, default=200, help="in the world, of the test split (%(default)s)")
    parser.add_argument("--steps", type=int, default=60_000, help="of PPO, in the dream (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the agents (%(default)s)")
    args = parser.parse_args()
    if is_short():
        args.episodes, args.steps = 4, 64
    try:
        world, model = run_config(args.run).world, load(args.run)
        if not isinstance(world, DistractingMemory) or model.reward is None:
            raise ValueError(f"{args.run}: expected a run of Distracting Memory with a reward head, got {world.name}")
    except ValueError as error:
        parser.error(str(error))
    torch.manual_seed(args.seed)

    def turn_at_random(features: Tensor, state: State, step: int) -> Tensor:
        turns = TURN_LEFT + (TURN_RIGHT - TURN_LEFT) * torch.randint(2, (len(features),))
        return turns if step == 0 else torch.full_like(turns, FORWARD)

    agents: dict[str, Agent] = {
        "random actions": lambda features, state, step: torch.randint(model.action_dim, (len(features),)),
        "a turn at random": turn_at_random,
        "CEM, no memory": lambda features, state, step: plan(model, state, LAST - step),
        "CEM": lambda features, state, step: plan(model, state, LAST - step),
    }
    if importlib.util.find_spec("stable_baselines3"):
        agents["PPO"] = ppo(model, world, args.steps, args.seed)
    else:
        print("No PPO: pip install 'stable-baselines3>=2.9'", file=sys.stderr)
    rows, found = [], {}
    for name, agent in agents.items():
        rewards, dreamt = play(model, world, agent, args.episodes, memory="no memory" not in name)
        told = binomial(rewards[:, None])
        found[name] = {"world": told.mean, "low": told.low, "high": told.high, "dream": dreamt}
        rows.append((name, f"{told.mean:.1%}", f"[{told.low:.1%}, {told.high:.1%}]", f"{dreamt:.1%}"))
    write_text(args.run / "acting.json", to_json(found))
    table = Table(
        f"{world.name}: the reward of the last {LAST} steps",
        ("agent", "in the world", "95 % interval", "in the dream"),
        rows,
        f"{args.run}; {args.episodes} test episodes. The reward is 1 for leaving by the target of the sample's colour.",
    )
    Console().print(table.rich())
    return 0


def starts(world: DistractingMemory, split: str, episodes: int) -> tuple[Batch, list[int]]:
    """Episodes cut at the end of the hall, and the actions that led there, the same in all of them."""
    source = GeneratedEpisodes(world, seed=0, split=split, num_episodes=episodes)
    drawn = [source.episode(number).steps for number in range(episodes)]
    cut = {key: np.stack([steps[key][:-LAST] for steps in drawn]) for key in ("image", "action")}
    image = np.moveaxis(cut["image"], -1, 2)  # (B, T, C, H, W)
    return Batch.of(image, cut["action"]), [int(action) for action in cut["action"][0, 1:].argmax(-1)]


def play(
    model: WorldModel, world: DistractingMemory, agent: Agent, episodes: int, memory: bool
) -> tuple[NDArray[np.float64], float]:
    """Rewards (episodes,) of an agent in the world, and the mean that it imagined when it went on in the dream.

    Without memory the model reads the frame at the end of the hall as if the episode began there.
    """
    _, walk = starts(world, "test", 1)
    envs = [GridEnv(world) for _ in range(episodes)]
    seen = [env.reset(seed=0, options={"split": "test", "index": i})[0] for i, env in enumerate(envs)]
    rewards, action = np.zeros(episodes), torch.zeros(episodes, model.action_dim)

    def images() -> Tensor:
        return torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)  # (B, C, H, W)

    def act(numbers: list[int]) -> Tensor:
        for row, (env, number) in enumerate(zip(envs, numbers, strict=True)):
            seen[row], reward, *_ = env.step(number)
            rewards[row] += float(reward)
        return F.one_hot(torch.tensor(numbers), model.action_dim).float()

    with Filter(model, episodes) as read:
        for number in walk:
            read(images(), action)
            action = act([number] * episodes)
        forgets = torch.full((episodes,), not memory)
        features = read(images(), action * memory, forgets)
        dreamt = dream(model, agent, features, read.state)
        for step in range(LAST):
            action = act(agent(features, read.state, step).tolist())
            features = read(images(), action)
    return rewards, dreamt


@torch.no_grad()
def dream(model: WorldModel, agent: Agent, features: Tensor, state: State) -> float:
    """The mean reward of the last steps when they are imagined."""
    reward = torch.zeros(len(features))
    for step in range(LAST):
        action = F.one_hot(agent(features, state, step), model.action_dim).float()[:, None]  # (B, 1, A)
        ahead = model.imagine(action, state, noise=model.draw_noise(len(features), 1))
        features, state = ahead.features[:, 0], ahead.state
        reward += model.predict_reward(features)
    return float(reward.mean())


@torch.no_grad()
def plan(model: WorldModel, state: State, horizon: int, candidates: int = 64, best: int = 4, rounds: int = 5) -> Tensor:
    """The cross-entropy method over sequences of actions: the first action (B,) of the likeliest plan of each row.

    Half of each round's chances stay even: one sequence of 49 has the reward, and a round may not have drawn it.
    """
    rows, even = len(tree.leaves(state)[0]), 1 / model.action_dim
    chances = torch.full((rows, horizon, model.action_dim), even)  # (B, H, A)
    many = tree.repeat(state, candidates)
    for _ in range(rounds):
        drawn = torch.multinomial(chances.flatten(0, 1), candidates, replacement=True)  # (B H, N)
        drawn = drawn.view(rows, horizon, candidates).transpose(1, 2).flatten(0, 1)  # (B N, H)
        action = F.one_hot(drawn, model.action_dim).float()
        ahead = model.imagine(action, many, noise=model.draw_noise(rows * candidates, horizon))
        reward = model.predict_reward(ahead.features).sum(1).view(rows, candidates)
        chosen = reward.topk(best).indices[..., None, None].expand(-1, -1, horizon, model.action_dim)
        chances = (action.view(rows, candidates, horizon, -1).gather(1, chosen).mean(1) + even) / 2
    return chances[:, 0].argmax(-1)


def ppo(model: WorldModel, world: DistractingMemory, steps: int, seed: int) -> Agent:
    """Stable-Baselines3's PPO after so many steps in the dream, from training episodes."""
    from stable_baselines3 import PPO  # no dependency of wmkit
    from stable_baselines3.common.vec_env import VecEnv

    class Dream(VecEnv):  # type: ignore[misc]  # it has no types, and need not be installed
        """What their agents step through; rows begin anew by themselves."""

        def __init__(self, env: ImaginedVectorEnv) -> None:
            self.env, self.actions = env, np.zeros(0)
            super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

        def reset(self) -> NDArray[Any]:
            return self.env.reset(seed=self._seeds[0])[0]

        def step_async(self, actions: NDArray[Any]) -> None:
            self.actions = actions

        def step_wait(self) -> tuple[Any, ...]:
            seen, reward, over, cut, more = self.env.step(self.actions)
            infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
            for row in np.flatnonzero(over | cut):
                infos[row] = {"terminal_observation": more["final_obs"][row]}  # the end: there is no step after it
            return seen, reward, over | cut, infos

        def close(self) -> None:
            self.env.close()

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [getattr(self.env, attr_name, None)] * len(list(self._get_indices(indices)))

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError("one environment steps all rows: they have no attributes of their own")

        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            raise NotImplementedError("one environment steps all rows: they have no methods of their own")

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
            return [False] * len(list(self._get_indices(indices)))

    with model.prepared():
        env = Dream(ImaginedVectorEnv(model, starts(world, "train", 512)[0], num_envs=32, horizon=LAST))
        learner = PPO("MlpPolicy", env, n_steps=32, batch_size=256, seed=seed, device="cpu").learn(steps)
    return lambda features, state, step: torch.from_numpy(learner.predict(features.numpy(), deterministic=True)[0])


if __name__ == "__main__":
    sys.exit(main())
