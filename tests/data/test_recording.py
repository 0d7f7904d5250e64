"""Any Gymnasium environment is recorded, whatever its spaces, as long as it shows something."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Text, Tuple

from wmkit.data import EpisodeStore, record


class Corridor(gymnasium.Env[Any, Any]):
    """A place 0..7 that is drawn as a white column; ends at the right."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  as Gymnasium has it

    def __init__(self, sees: str, action_space: Any = None, render_mode: str | None = None) -> None:
        picture = Box(0, 255, (8, 8, 3), np.uint8)
        spaces = {"picture": picture, "dict": Dict({"image": picture}), "vector": Box(-1, 9, (1,), np.float64)}
        self.observation_space = spaces[sees]
        self.action_space = action_space or Discrete(3, start=-1)
        self.sees, self.render_mode, self.place = sees, render_mode, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(4))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = int(np.clip(self.place + np.sum(action), 0, 7))
        return self._observation(), float(self.place == 7), self.place == 7, False, {}

    def render(self) -> Any:
        image = np.zeros((8, 8, 3), np.uint8)
        image[:, self.place] = 255
        return image

    def _observation(self) -> Any:
        place = np.array([self.place], np.float64)
        return {"picture": self.render(), "dict": {"image": self.render()}, "vector": place}[self.sees]


@pytest.mark.reported(
    "data",
    "",
    "`record(env, policy, episodes, out)` of an environment with pictures, a dict or a vector as observations",
    "archives train, valid and test; actions one-hot, images rendered where they are not observed",
)
@pytest.mark.parametrize("sees", ["picture", "dict", "vector"])
def test_an_environment_is_recorded(sees: str, tmp_path: Path) -> None:
    env = Corridor(sees, render_mode="rgb_array")
    stores = record(env, lambda _: 1, episodes=6, out=tmp_path / "right")
    assert {split: len(store) for split, store in stores.items()} == {"train": 3, "valid": 1, "test": 2}
    episode = stores["test"].episode(0)
    places = episode["image"][:, 0, :, 0].argmax(-1)
    assert places.tolist() == list(range(places[0], 8))
    assert episode["action"].tolist() == [[0, 0, 0]] + [[0, 0, 1]] * (episode.length - 1)
    assert episode["reward"].tolist() == [0.0] * (episode.length - 1) + [1.0]
    assert episode["is_terminal"].tolist() == [False] * (episode.length - 1) + [True]
    assert ("observation" in episode) == (sees == "vector")


@pytest.mark.parametrize(("space", "width"), [(Box(-1, 1, (2, 2)), 4), (MultiDiscrete([2, 3]), 5)])
def test_other_actions_are_vectors(space: Any, width: int, tmp_path: Path) -> None:
    stores = record(Corridor("picture", space), episodes=2, out=tmp_path, max_steps=4, split=(1,))
    assert stores["train"].action_dim == width
    assert stores["train"].episode_length(0) <= 4


@pytest.mark.reported(
    "data",
    "",
    "a recording that is stopped and started again, or made twice",
    "the same episodes, to the bit; it goes on",
)
def test_the_same_call_goes_on_and_gives_the_same_episodes(tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == ("recording train", 2):
            raise KeyboardInterrupt

    call: dict[str, Any] = {"episodes": 5, "max_steps": 6, "seed": 3, "split": (0.6, 0, 0.4)}
    with pytest.raises(KeyboardInterrupt):
        record(Corridor("picture"), out=tmp_path / "a", progress=stop, **call)
    assert len(EpisodeStore(tmp_path / "a" / "train")) == 2
    with pytest.warns(UserWarning, match="2 of 5 episodes are there already, of the same settings"):
        one = record(Corridor("picture"), out=tmp_path / "a", **call)
    other = record(Corridor("picture"), out=tmp_path / "b", **call)
    assert {split: len(store) for split, store in one.items()} == {"train": 3, "test": 2}
    for split, index in (("train", 0), ("train", 2), ("test", 1)):
        for key, value in one[split].episode(index).items():
            assert (value == other[split].episode(index)[key]).all()


@pytest.mark.reported(
    "data",
    "",
    "`record` into archives that another policy, environment, seed, split or size has filled",
    "`ValueError` that says what differs; what cannot be compared, the same call again, is a warning: nothing anew",
)
def test_a_recording_of_other_settings_is_refused_and_the_same_is_said(tmp_path: Path) -> None:
    call: dict[str, Any] = {"episodes": 5, "max_steps": 4, "out": tmp_path / "out", "split": (0.6, 0, 0.4)}
    record(Corridor("picture"), **call)
    (tmp_path / "out" / "valid").mkdir()
    with pytest.warns(
        UserWarning,
        match="5 of 5 episodes are there already, .* nothing is recorded anew.* delete the folder, or name another",
    ):
        record(Corridor("picture"), **call)
    for env, policy, more, words in (
        (Corridor("picture"), right, {}, r"policy is 'tests\.data\.test_recording\.right', there it was None"),
        (Corridor("picture"), None, {"seed": 1}, "seed is 1, there it was 0"),
        (Corridor("picture"), None, {"size": 10}, "size is 10, there it was None"),
        (Corridor("picture"), None, {"split": (0.4, 0.2, 0.4)}, "shares is"),
        (Corridor("picture"), None, {"split": (0, 1)}, "the same episodes under other shares"),
        (Corridor("picture"), None, {"max_steps": 5}, "max_steps is 5, there it was 4"),
        (Corridor("dict"), None, {}, "observation_space is"),
        (Corridor("picture", Discrete(2)), None, {}, "action_space is"),
    ):
        with pytest.raises(ValueError, match=rf"train: an archive that was made otherwise .*{words}"):
            record(env, policy, **{**call, **more})


@pytest.mark.reported(
    "data",
    "",
    "`record` one split at a time, with seeds that the other split has had",
    "`ValueError` with the seed to say: the same episode is not trained and tested on",
)
def test_splits_recorded_one_by_one_share_no_seed(tmp_path: Path) -> None:
    call: dict[str, Any] = {"out": tmp_path, "max_steps": 3}
    record(Corridor("picture"), episodes=3, split=(1,), seed=5, **call)
    for seed in (4, 7):
        with pytest.raises(ValueError, match=r"train has episodes from seeds 5 to 7, which .* say seed=8"):
            record(Corridor("picture"), episodes=2, split=(0, 0, 1), seed=seed, **call)
    assert not (tmp_path / "test").exists()
    assert len(record(Corridor("picture"), episodes=2, split=(0, 0, 1), seed=8, **call)["test"]) == 2


def test_what_an_environment_was_made_with_is_compared(tmp_path: Path) -> None:
    def made(steps: int, thing: Any) -> Corridor:
        env = Corridor("picture")
        env.spec = gymnasium.envs.registration.EnvSpec("Corridor-v0", kwargs={"it": thing}, max_episode_steps=steps)
        return env

    call: dict[str, Any] = {"episodes": 1, "out": tmp_path, "split": (1,)}
    record(made(3, object()), **call)
    with pytest.warns(UserWarning, match="1 of 1 episodes are there already"):
        record(made(3, object()), **call)
    for other in (made(4, object()), made(3, 5)):
        with pytest.raises(ValueError, match=r"made otherwise \(kwargs is"):
            record(other, **call)


def right(_: Any) -> int:
    return 1


@pytest.mark.reported(
    "data",
    "",
    "a policy that returns -1 or a one-hot vector for `Discrete(3)`, three numbers or one for `Box(2)`, None, a pair",
    "`ValueError` with step, value and space; numbers of NumPy and PyTorch are taken",
)
@pytest.mark.parametrize(
    ("space", "action", "words"),
    [
        (Discrete(3), -1, r"policy: at step 0 it chose -1, expected an action of Discrete\(3\)"),
        (Discrete(3), 7, "chose 7"),
        (Discrete(3), 1.7, "chose 1.7"),
        (Discrete(3), None, "chose None"),
        (Discrete(3), np.array([0, 1, 0]), r"chose array\(\[0, 1, 0\]\)"),
        (Discrete(3), (np.array(1), None), "Stable-Baselines' predict give the first"),
        (Box(-1, 1, (2,)), np.zeros(3), r"chose array\(\[0., 0., 0.\]\), expected an action of Box"),
        (Box(-1, 1, (2,)), 0.5, "chose 0.5"),
        (Box(-1, 1, (2,)), np.full(2, np.nan), "nan"),
        (Box(-1, 1, (2,)), np.full(2, 1.5), r"1\.5.* np\.clip\(action, space\.low, space\.high\)"),
        (Box(-1, 1, (2,)), "ab", "chose 'ab'"),
        (Box(0, 9, (2,), np.int64), np.full(2, 0.5), "0.5"),
        (MultiDiscrete([2, 3]), np.array([1, 3]), r"MultiDiscrete\(\[2 3\]\)"),
        (Dict({"a": Discrete(2)}), {"b": 1}, "Dict"),
        (Text(3), None, r"its actions are Text.*expected Box, Discrete"),
        (Tuple([Text(3)]), None, r"its actions are Text"),
    ],
)
def test_an_action_that_is_none_of_its_space_is_refused(space: Any, action: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        record(Corridor("picture", space), lambda _: action, episodes=1, out=tmp_path, max_steps=3, split=(1,))


@pytest.mark.parametrize(
    ("space", "action", "wanted"),
    [
        (Discrete(3), torch.tensor(1), [0, 1, 0]),
        (Discrete(3), np.array([2]), [0, 0, 1]),
        (Discrete(3), np.int64(1), [0, 1, 0]),
        (Box(-1, 1, (2,)), [0.5, -0.5], [0.5, -0.5]),
        (MultiDiscrete([2, 3]), [1, 2], [0, 1, 0, 0, 1]),
        (Box(-1, 1, (2,)), np.array([0.5, 1.0]), [0.5, 1.0]),
        (Box(-1, 1, (2,)), torch.tensor([0.5, 1.0], requires_grad=True), [0.5, 1.0]),
    ],
)
def test_numbers_of_numpy_and_pytorch_are_actions(space: Any, action: Any, wanted: Any, tmp_path: Path) -> None:
    env = Corridor("picture", space)
    stores = record(env, lambda _: action, episodes=1, out=tmp_path, max_steps=2, split=(1,))
    assert stores["train"].episode(0)["action"][1].tolist() == wanted


@pytest.mark.reported(
    "data",
    "",
    "`record` of grey pictures (H, W); of float, channels-first or otherwise named ones",
    "the first are taken; of the others it is said that what is rendered stands for them",
)
def test_pictures_are_taken_in_grey_or_passed_over_with_a_word(tmp_path: Path) -> None:
    env = Corridor("picture", render_mode="rgb_array")
    env.observation_space = Box(0, 255, (8, 8), np.uint8)
    env._observation = lambda: env.render()[..., 0]
    stores = record(env, episodes=1, out=tmp_path / "grey", max_steps=3, split=(1,))
    assert stores["train"].image_shape == (1, 8, 8)
    for number, space in enumerate((
        Box(0, 255, (4, 16, 16), np.uint8),
        Box(0, 1, (16, 16, 3), np.float32),
        Dict({"rgb": Box(0, 255, (16, 16, 3), np.uint8)}),
    )):  # fmt: skip
        env.observation_space = space
        env._observation = space.sample
        with pytest.warns(
            UserWarning, match=r"bservation.* is Box.* pictures are taken .* What the environment renders"
        ):
            record(env, episodes=1, out=tmp_path / str(number), max_steps=3, split=(1,))


@pytest.mark.reported(
    "messages",
    "",
    "`record` with a policy that is an object with `predict`, a class or a number; an environment's class, None, a "
    "vector of environments, `reset` of old; episodes=2.5 or '10'; seed=-1",
    "`ValueError`, one sentence each",
)
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"policy": 5}, "policy: expected a function from an observation to an action, got int"),
        ({"policy": dict}, "policy: expected a function .* got dict"),
        ({"policy": type("PPO", (), {"predict": None})()}, r"PPO: give lambda observation: model.predict"),
        ({"env": Corridor}, "env: expected a gymnasium.Env or the id of one, got .*Corridor: make one of it"),
        ({"env": None}, "env: expected a gymnasium.Env or the id of one, got NoneType"),
        ({"env": gymnasium.vector.VectorEnv()}, "VectorEnv: one at a time"),
        ({"env": type("Old", (Corridor,), {"reset": lambda self, seed: np.zeros(3)})("picture")}, "got numpy.ndarray"),
        ({"episodes": 2.5}, "episodes: expected a whole number of at least 1, got 2.5"),
        ({"episodes": "10"}, "episodes: expected a whole number"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"seed": "a"}, "seed: expected a whole number"),
        ({"split": 1}, r"split: expected shares such as \(0\.8, 0\.1, 0\.1\), .* got 1"),
        ({"split": "0.8,0.2"}, r"split: expected shares .* got '0\.8,0\.2'"),
    ],
)
def test_arguments_of_another_kind_are_refused(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        record(**{"env": Corridor("picture"), "episodes": 5, "out": tmp_path / "out", **more})
    assert not (tmp_path / "out" / "train").exists() or "Old" in str(more)


@pytest.mark.reported(
    "data",
    "",
    "an environment that shows nothing, an id that is unknown, no folder",
    "`ValueError` that says what to do",
)
@pytest.mark.parametrize(
    ("env", "more", "words"),
    [
        (Corridor("vector"), {}, "no pictures .* make it with render_mode='rgb_array'"),
        ("NoSuch-v0", {}, r"env: .*NoSuch.* minigrid:MiniGrid"),
        (Corridor("picture"), {"out": ""}, "out: expected a folder for the archives, got nothing"),
        (Corridor("picture"), {"max_steps": 1}, "max_steps: expected at least 2, got 1"),
        (Corridor("picture"), {"episodes": 2}, "2 episodes are too few"),
    ],
)
def test_what_cannot_be_recorded_is_refused(env: Any, more: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        record(env, **{"episodes": 5, "out": tmp_path / "out", **more})


def test_an_id_is_made_rendered_and_resized(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="400 x 600 pixels .* 64 x 64, which changes their proportions"):
        stores = record("CartPole-v1", episodes=1, out=tmp_path, max_steps=3, split=(1,))
    assert stores["train"].image_shape == (3, 64, 64)
    assert stores["train"].episode(0)["observation"].shape == (3, 4)
