"""Episodes of any Gymnasium environment, recorded to archives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmkit.checks import check_integer
from wmkit.data.episode import Array
from wmkit.data.folders import SHARES, Progress, split_episodes
from wmkit.data.own import Form, form_of
from wmkit.data.store.archive import EpisodeStore
from wmkit.data.store.writers import EpisodeWriter
from wmkit.files import user_folder

SMALLEST = 8
"""Pixels: an observation of a smaller side is no picture, such as MiniGrid's 7 x 7 numbers of what is where."""


def record(
    env: Any,
    policy: Callable[[Any], Any] | None = None,
    episodes: int = 100,
    out: str | Path = "",
    *,
    max_steps: int | None = None,
    split: Sequence[float] = SHARES,
    size: int | None = None,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, EpisodeStore]:
    """Play `episodes` episodes and write them to the archives `train`, `valid` and `test` in the folder `out`.

    env: an environment, or a Gymnasium id. Images are its observations where these are pictures (H, W, C) uint8, alone
    or as `image` of a dict, else what it renders (`render_mode="rgb_array"`); they are resized as by `Episodes`, `size`
    pixels. Discrete actions become one-hot, others a vector of floats. A vector that it observes is kept as the ground
    truth `observation`.

    policy: from an observation to an action; None: random actions. Episode i begins with `env.reset(seed=seed + i)`,
    and a random policy draws from that seed too. max_steps: observations of an episode at most; None: until the
    environment ends it. split: shares as in `import_folder`; the same call again goes on where one was stopped.

    What was resized or assumed is a `UserWarning`. Raises `ValueError` for an unknown id, an environment that gives no
    images, too few episodes for the split, and archives in `out` that hold something else.
    """
    import gymnasium

    if not str(out).strip():
        raise ValueError("out: expected a folder for the archives, got nothing")
    if max_steps is not None:
        check_integer("max_steps", max_steps, 2)
    parts = split_episodes(episodes, split)
    played = env
    if isinstance(env, str):
        try:
            played = gymnasium.make(env, render_mode="rgb_array")
        except gymnasium.error.Error as error:
            raise ValueError(
                f"env: {error} Expected an environment or a Gymnasium id, with the package to import before a colon if "
                "it is not Gymnasium's own: minigrid:MiniGrid-Empty-8x8-v0"
            ) from error
    label = played.spec.id if played.spec is not None else type(played.unwrapped).__name__
    about = {"recorded": label, "episodes": episodes, "seed": seed, "max_steps": max_steps, "size": size}
    form: Form | None = None
    try:
        for part, indices in parts.items():
            with EpisodeWriter(user_folder(out) / part, {"split": part, **about}) as writer:
                for index in indices[len(writer) :]:
                    given = _play(played, policy, seed + index, max_steps)
                    if form is None:
                        form = form_of([(label, given)], size=size, actions="after")
                        for note in form.notes:
                            warnings.warn(note, stacklevel=2)
                    writer.append(form.episode(given, f"{label}, episode {index}"))
                    progress(f"recording {part}", len(writer), len(indices))
    finally:
        if played is not env:
            played.close()
    return {part: EpisodeStore(user_folder(out) / part) for part in parts}


def _play(env: Any, policy: Callable[[Any], Any] | None, seed: int, max_steps: int | None) -> dict[str, Array]:
    """One episode as `form_of` takes it, actions after images."""
    from gymnasium.spaces import Box, flatten

    observation, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    images, observations = [_picture(env, observation)], [observation]
    actions, rewards, terminals = [], [], []
    ended = False
    while not ended and len(images) != max_steps:
        action = env.action_space.sample() if policy is None else policy(observation)
        observation, reward, terminal, truncated, _ = env.step(action)
        images.append(_picture(env, observation))
        observations.append(observation)
        actions.append(flatten(env.action_space, action))  # discrete ones become one-hot
        rewards.append(float(reward))
        terminals.append(bool(terminal))
        ended = terminal or truncated
    given = {
        "image": np.stack(images),
        "action": np.array(actions, np.float32),
        "reward": np.array(rewards),
        "is_terminal": np.array(terminals),
    }
    space = env.observation_space
    if isinstance(space, Box) and not _is_picture(space):
        given["observation"] = np.stack(observations)
    return given


def _picture(env: Any, observation: Any) -> Array:
    """What is seen: the observation, if it is a picture, else what the environment renders."""
    from gymnasium.spaces import Dict

    space = env.observation_space
    if _is_picture(space):
        return np.array(observation)
    if isinstance(space, Dict) and _is_picture(space.spaces.get("image")):
        return np.array(observation["image"])
    if env.render_mode != "rgb_array":
        raise ValueError(
            f"env: its observations are no pictures ({space}), and its render_mode is {env.render_mode!r}: make it "
            "with render_mode='rgb_array'"
        )
    return np.array(env.render())


def _is_picture(space: Any) -> bool:
    from gymnasium.spaces import Box

    return (
        isinstance(space, Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and min(space.shape[:2]) >= SMALLEST
    )
