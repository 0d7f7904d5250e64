"""Toy worlds, installed the way any package offers worlds: a module and an entry point on sys.path."""

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from wmkit.data import Episode

MODULE = """
import dataclasses, os, signal, time, types
import numpy as np

@dataclasses.dataclass(frozen=True)
class Toy:
    fault: str = ""
    wide: int = 12
    action_dim = 4
    episode_length = 23
    context_length = 9

    @property
    def name(self):
        return f"toy_{self.wide}_{self.fault}"

    @property
    def image_shape(self):
        return 3, 8, self.wide

    def generate(self, *, seed, split="train", index=0, length=None):
        if index == 5:
            self.break_down()
        key = (("train", "valid", "test").index(split), index)
        rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))
        t = self.episode_length
        steps = {
            "image": rng.integers(0, 256, (t, 8, self.wide, 3), dtype=np.uint8),
            "action": np.eye(4, dtype=np.float32)[rng.integers(0, 4, t)],
            "reward": rng.normal(size=t).astype(np.float32),
            "is_first": np.arange(t) == 0,
            "is_terminal": np.zeros(t, bool),
            "agent_pos": np.stack([np.full(t, index), np.arange(t)], axis=1).astype(np.float32),
        }
        steps["action"][0] = 0
        if self.fault == "nan" and index == 5:
            steps["action"][7, 2] = np.nan
        steps = {k: v[:length] for k, v in steps.items()}
        constants = {"context_length": np.int64(9), "maze_layout": rng.integers(0, 2, (7, 7), dtype=np.uint8)}
        if self.fault == "ungrouped":
            return steps | constants
        if self.fault == "timed":
            steps["late"] = steps["reward"][1:]
        constants["as_long"] = np.arange(len(steps["image"]), dtype=np.float32) + index
        return types.SimpleNamespace(steps=steps, constants={k: np.asarray(v) for k, v in constants.items()})

    def break_down(self):
        if self.fault == "raises":
            raise KeyError("no such maze")
        if self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)

FAULTS = ("raises", "dies", "nan", "timed", "ungrouped")
WORLDS = {"toy": Toy, **{f"toy_{fault}": Toy(fault) for fault in FAULTS}, "no_world": object()}
"""
ENTRY_POINTS = """
[wmkit.worlds]
wmkit_toy_worlds = wmkit_toy_worlds:WORLDS
"""


@pytest.fixture(scope="module", autouse=True)
def _toy_worlds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "wmkit_toy_worlds.py").write_text(MODULE)
    info = folder / "wmkit_toy_worlds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wmkit-toy-worlds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(ENTRY_POINTS))
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("wmkit_toy_worlds", None)


class ListSource:
    """Episodes of given lengths held in memory; frame t of episode i shows i and t in its first two bytes."""

    image_shape = (3, 4, 4)
    action_dim = 2

    def __init__(self, lengths):
        self.episodes = [self._episode(i, t) for i, t in enumerate(lengths)]

    @property
    def num_episodes(self):
        return len(self.episodes)

    def episode_length(self, index):
        return len(self.episodes[index]["image"])

    def episode(self, index):
        return self.episodes[index]

    @staticmethod
    def _episode(i, t):
        image = np.zeros((t, 4, 4, 3), np.uint8)
        image[:, 0, 0, 0], image[:, 0, 0, 1] = i, np.arange(t)
        steps = {
            "image": image,
            "action": np.ones((t, 2), np.float32) * (np.arange(t) > 0)[:, None],
            "reward": np.arange(t, dtype=np.float32),
            "is_first": np.arange(t) == 0,
            "is_terminal": np.arange(t) == t - 1,
            "agent_pos": np.stack([np.full(t, i), np.arange(t)], 1).astype(np.float32),
        }
        return Episode(steps, {"context_length": np.asarray(i, np.int64)})


@pytest.fixture(scope="session")
def list_source():
    return ListSource


@pytest.fixture
def tree(tmp_path):
    """All files under a folder, with their bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    return read
