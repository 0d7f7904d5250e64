"""Any Gymnasium environment is recorded, whatever its spaces, as long as it shows something."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

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
    one, other = (record(Corridor("picture"), out=tmp_path / name, **call) for name in "ab")
    assert {split: len(store) for split, store in one.items()} == {"train": 3, "test": 2}
    for split, index in (("train", 0), ("train", 2), ("test", 1)):
        for key, value in one[split].episode(index).items():
            assert (value == other[split].episode(index)[key]).all()


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
