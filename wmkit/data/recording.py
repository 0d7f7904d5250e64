"""Episodes of any Gymnasium environment, recorded to archives."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmkit.checks import check_integer
from wmkit.data.episode import Array
from wmkit.data.folders import SHARES, Progress, origins_of, padded_shares, split_episodes
from wmkit.data.own import Form, form_of
from wmkit.data.store.archive import EpisodeStore, read_index
from wmkit.data.store.writers import EpisodeWriter
from wmkit.data.worlds import SPLITS
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

    env: an environment, or a Gymnasium id. Images are its observations where these are pictures, uint8 (H, W, C) or in
    grey (H, W), alone or as `image` of a dict, else what it renders (`render_mode="rgb_array"`); they are resized as by
    `Episodes`, `size` pixels. Discrete actions become one-hot, others a vector of floats. A vector that it observes is
    kept as the ground truth `observation`.

    policy: from an observation to an action of the environment's space; None: random actions. Episode i begins with
    `env.reset(seed=seed + i)`, and a random policy draws from that seed too. max_steps: observations of an episode at
    most; None: until the environment ends it. split: shares as in `import_folder`.

    The same call again goes on where one was stopped, with a warning: its settings are compared with those of what is
    there, but what policy and environment do inside cannot be. What was resized, assumed or passed over is a
    `UserWarning` too. Raises `ValueError` for an unknown id, what is no single environment or gives no images, an
    action that is none of its space, too few episodes for the split, and archives in `out` recorded otherwise.
    """
    import gymnasium

    if not str(out).strip():
        raise ValueError("out: expected a folder for the archives, got nothing")
    check_integer("episodes", episodes, 1)
    check_integer("seed", seed, 0)
    if max_steps is not None:
        check_integer("max_steps", max_steps, 2)
    if policy is not None and (not callable(policy) or isinstance(policy, type)):
        hint = ": give lambda observation: model.predict(observation)[0]" if hasattr(policy, "predict") else ""
        raise ValueError(f"policy: expected a function from an observation to an action, got {_named(policy)}{hint}")
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
    elif isinstance(env, type) or not isinstance(env, gymnasium.Env):
        vector = isinstance(env, gymnasium.vector.VectorEnv)
        hint = ": one at a time, not several" if vector else ": make one of it" if isinstance(env, type) else ""
        raise ValueError(f"env: expected a gymnasium.Env or the id of one, got {_named(env)}{hint}")
    try:
        _check_actions(played.action_space)
        spec = played.spec
        label = spec.id if spec is not None else _named(played.unwrapped)
        about = {
            "recorded": label,
            "of": f"{label} from seed {seed} on",
            "kwargs": "" if spec is None else _written((spec.kwargs, spec.max_episode_steps)),
            "wrappers": _written((str(played), [] if spec is None else spec.additional_wrappers)),
            "observation_space": str(played.observation_space),
            "action_space": str(played.action_space),
            "policy": None if policy is None else _named(policy),
            "episodes": episodes,
            "shares": padded_shares(split),
            "seed": seed,
            "max_steps": max_steps,
            "size": size,
        }
        origins = origins_of(out, parts, about)
        for path in (user_folder(out) / part for part in SPLITS if part not in parts):
            held = read_index(path)["origin"] if (path / "zarr.json").exists() else {}
            after = held.get("seed", 0) + held.get("episodes", 0)
            if held.get("recorded") == label and held["seed"] < seed + episodes and seed < after:
                raise ValueError(
                    f"seed: {path} has episodes from seeds {held['seed']} to {after - 1}, which would come into "
                    f"another split too: say seed={after}"
                )
        indexes = [user_folder(out) / part / "zarr.json" for part in parts]
        there = sum(len(read_index(path.parent)["lengths"]) for path in indexes if path.exists())
        if there:
            anew = "nothing" if there == episodes else "only the others"
            warnings.warn(
                f"{out}: {there} of {episodes} episodes are there already, of the same settings; {anew} is recorded "
                "anew. Whether policy and environment are the same inside cannot be told: delete the folder, or name "
                "another, to record all of them",
                stacklevel=2,
            )
        if note := _passed_over(played):
            warnings.warn(note, stacklevel=2)
        form: Form | None = None
        for part, indices in parts.items():
            with EpisodeWriter(user_folder(out) / part, origins[part]) as writer:
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


def _written(values: Any) -> str:
    """`values` as text that is the same in another process, where objects have other addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(values))


def _named(what: Any) -> str:
    """The name of a function or class, or of the class of anything else."""
    named = what if hasattr(what, "__qualname__") else type(what)
    return f"{named.__module__}.{named.__qualname__}".removeprefix("builtins.")


def _check_actions(space: Any) -> None:
    """Refuse actions that no vector of numbers stands for, such as texts and graphs."""
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

    if isinstance(space, Dict | Tuple):
        for one in space.spaces.values() if isinstance(space, Dict) else space.spaces:
            _check_actions(one)
    elif not isinstance(space, Box | Discrete | MultiBinary | MultiDiscrete):
        raise ValueError(
            f"env: its actions are {space}, expected Box, Discrete, MultiBinary or MultiDiscrete, or a Dict or Tuple "
            "of these: wrap it with gymnasium.wrappers.TransformAction"
        )


def _passed_over(env: Any) -> str:
    """A sentence where observations look like pictures and are none that can be taken as they are."""
    from gymnasium.spaces import Box, Dict

    space = env.observation_space
    inside = space.spaces if isinstance(space, Dict) else {"": space}
    if _is_picture(space) or _is_picture(inside.get("image")):
        return ""
    for name, one in inside.items():
        if isinstance(one, Box) and len(one.shape) in (2, 3) and sorted(one.shape)[-2] >= SMALLEST:
            what = f"The observation {name!r}" if name else "Its observation"
            return (
                f"{what} is {one}; pictures are taken (H, W, C) or (H, W) as uint8, in a dict as 'image'. What the "
                "environment renders is recorded instead: wrap it with gymnasium.wrappers.TransformObservation if "
                "that is not meant"
            )
    return ""


def _chosen(space: Any, action: Any, step: int) -> Any:
    """The action of a policy as its space has it, of which NumPy's and PyTorch's numbers are; raises `ValueError`."""
    from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

    given = action
    if hasattr(action, "detach"):
        action = action.detach().cpu().numpy()
    if isinstance(space, Discrete) and isinstance(action, np.ndarray) and action.shape == (1,):
        action = action[0]
    if isinstance(space, Box | MultiBinary | MultiDiscrete) and isinstance(
        action, np.ndarray | np.generic | list | tuple | int | float
    ):
        try:
            cast = np.asarray(action).astype(space.dtype)
            action = cast if np.allclose(cast, np.asarray(action, np.float64)) else action
        except (TypeError, ValueError):  # refused below
            pass
    if isinstance(action, list | str) or action is None or not space.contains(action):
        pair = isinstance(given, tuple) and len(given) == 2
        hint = "; of the pair of Stable-Baselines' predict give the first" if pair else ""
        if isinstance(space, Box) and np.shape(action) == space.shape:
            hint = "; np.clip(action, space.low, space.high) brings numbers inside"
        raise ValueError(f"policy: at step {step} it chose {given!r}, expected an action of {space}{hint}")
    return action


def _play(env: Any, policy: Callable[[Any], Any] | None, seed: int, max_steps: int | None) -> dict[str, Array]:
    """One episode as `form_of` takes it, actions after images."""
    from gymnasium.spaces import Box, flatten

    begun = env.reset(seed=seed)
    if not (isinstance(begun, tuple) and len(begun) == 2 and isinstance(begun[1], dict)):
        raise ValueError(
            f"env: expected (observation, info) of reset, as Gymnasium has it, got {_named(begun)}: wrap an older one"
        )
    observation = begun[0]
    env.action_space.seed(seed)
    images, observations = [_picture(env, observation)], [observation]
    actions: list[Array] = []
    rewards, terminals = [], []
    ended = False
    while not ended and len(images) != max_steps:
        if policy is None:
            action = env.action_space.sample()
        else:
            action = _chosen(env.action_space, policy(observation), len(actions))
        observation, reward, terminal, truncated, _ = env.step(action)
        images.append(_picture(env, observation))
        observations.append(observation)
        actions.append(np.asarray(flatten(env.action_space, action)))  # discrete ones become one-hot
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
        and len(space.shape) in (2, 3)
        and min(space.shape[:2]) >= SMALLEST
    )
