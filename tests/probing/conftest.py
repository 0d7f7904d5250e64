"""Episodes whose pictures are known to the last pixel, and models whose features are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wmkit.data import Episode
from wmkit.probing import Fit, ForeignModel, Plan, Probe, base, since_last

LENGTH, SIDE = 12, 3


class Drawn:
    """A source of episodes by a function of a random generator, which gives images, truth and constants."""

    def __init__(self, make: Callable[[np.random.Generator], tuple[Any, dict, dict]], split: int) -> None:
        self.make, self.split, self.num_episodes, self.action_dim = make, split, None, 2
        self.image_shape = (1, 8, 8)

    def episode_length(self, index: int) -> int:
        return len(self.episode(index)["image"])

    def episode(self, index: int) -> Episode:
        image, steps, constants = self.make(np.random.default_rng([self.split, index]))
        length = len(image)
        flags = {"is_first": np.arange(length) == 0, "is_terminal": np.zeros(length, bool)}
        action = np.zeros((length, 2), np.float32)
        return Episode({"image": image, "action": action, "reward": np.zeros(length, np.float32)} | flags | steps,
                       constants)  # fmt: skip


def both(make: Callable[..., Any]) -> tuple[Drawn, Drawn]:
    return Drawn(make, 0), Drawn(make, 1)


def maze(rng: np.random.Generator, shown: bool) -> tuple[Any, dict, dict]:
    """3 x 3 cells, drawn in the picture or not; the walker turns around in one of them."""
    layout = rng.integers(0, 2, (SIDE, SIDE), dtype=np.uint8)
    layout[1, 1] = 1
    image = rng.integers(0, 256, (LENGTH, 8, 8, 1), dtype=np.uint8)
    if shown:
        image[:] = 0
        image[:, :SIDE, :SIDE, 0] = 255 * layout
    angle = rng.uniform(0, 2 * np.pi, LENGTH)
    pose = {
        "agent_pos": np.full((LENGTH, 2), 1.5, np.float32),
        "agent_dir": np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32),
    }
    return image, pose, {"maze_layout": layout}


def cue(rng: np.random.Generator, length: int = 16, first: int = 5, last: int = 6) -> tuple[Any, dict, dict]:
    """One of four marks is shown once, at a step of first..last-1, on black."""
    kind, at = int(rng.integers(4)), int(rng.integers(first, last))
    image = np.zeros((length, 8, 8, 1), np.uint8)
    image[at, kind] = 255
    return image, {}, {"cue": np.array(kind), "at": np.array(at)}


class Cue(Probe):
    """Which of the four marks it was, once it was shown."""

    name = "cue"
    keys = ("cue", "at")
    hidden = (16,)

    def target(self, episode):
        return np.full(episode.length, int(episode["cue"]))

    def delay(self, episode):
        return since_last(np.arange(episode.length) == int(episode["at"]))

    def counts(self, delay, target):
        return delay >= 0


def looking() -> ForeignModel:
    """The features of a step are its frame; what is imagined is black."""

    def step(embedding: Tensor | None, action: Tensor, state: Any) -> tuple[Tensor, Any]:
        return torch.zeros(len(action), 64) if embedding is None else embedding, torch.zeros(len(action))

    return ForeignModel(lambda image: image.flatten(1), step, lambda features: features.view(-1, 1, 8, 8))


def forgetful(seed: int) -> ForeignModel:
    """A recurrence that could carry something on, and has the weight 0 where it would."""
    torch.manual_seed(seed)
    read, carry = torch.nn.Linear(64, 16), torch.nn.Linear(16, 16, bias=False)
    torch.nn.init.zeros_(carry.weight)

    def step(embedding: Tensor | None, action: Tensor, state: Any) -> tuple[Tensor, Any]:
        seen = torch.zeros(len(action), 16) if embedding is None else embedding
        state = torch.tanh(seen if state is None else seen + carry(state))
        return state, state

    return ForeignModel(lambda image: read(image.flatten(1)), step, lambda h: h[:, :1, None, None].expand(-1, 1, 8, 8),
                        modules=(read, carry), make=forgetful)  # fmt: skip


@pytest.fixture
def own_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test registers is forgotten after it."""
    monkeypatch.setattr(base._probes, "by_name", base.all_probes())


def small(**options: Any) -> Plan:
    fit = Fit(steps=options.pop("steps", 150), rows=64, rate=options.pop("rate", 1e-2))
    return Plan(**{"episodes": 60, "held_out": 12, "seeds": 2, "every": 1, "heads": ("linear",), "fit": fit} | options)
