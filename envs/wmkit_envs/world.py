"""What every world is: a name, lengths, shapes, and a pure function from (seed, split, index) to an episode."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Episode = dict[str, NDArray[Any]]

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}
"""What every environment tells Gymnasium: only what is tested without a screen."""
SPLITS = {"train": 0, "valid": 1, "test": 2}
"""Number of each split in the seed's spawn key."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """Where an episode's randomness comes from: three independent streams per (seed, split, index)."""

    seed: int
    split: str = "train"
    index: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0 or self.index < 0:
            raise ValueError(f"seed and index: expected integers >= 0, got seed={self.seed}, index={self.index}")
        if self.split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {self.split!r}")

    def streams(self) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator]:
        """Generators for the scene, for the order of targets, and for the policy."""
        root = np.random.SeedSequence(entropy=self.seed, spawn_key=(SPLITS[self.split], self.index))
        scene, goals, policy = (np.random.default_rng(child) for child in root.spawn(3))
        return scene, goals, policy

    def following(self, options: dict[str, Any]) -> Draw:
        """The next episode of the same seed and split, unless `options` say otherwise."""
        return dataclasses.replace(dataclasses.replace(self, index=self.index + 1), **options)


def next_draw(last: Draw | None, seed: int | None, options: dict[str, Any], random: np.random.Generator) -> Draw:
    """The episode that a `reset` begins: of `seed`, else the one after `last`, else of a seed from `random`."""
    if seed is None and last is not None:
        return last.following(options)
    return Draw(int(random.integers(2**31)) if seed is None else seed, **options)


def check_render_mode(mode: str | None) -> None:
    """Raise `ValueError` for a render mode that is not in `METADATA`."""
    if mode not in (None, *METADATA["render_modes"]):
        raise ValueError(f'render_mode: expected None or "rgb_array", got {mode!r}')


def checked_options(options: dict[str, Any] | None) -> dict[str, Any]:
    """The options of an environment's `reset`: `split` and `index`; raises `ValueError` for others."""
    unknown = set(options or {}) - {"split", "index"}
    if unknown:
        raise ValueError(f"options: expected split and index, got also {sorted(unknown)}")
    return dict(options or {})


@dataclasses.dataclass(frozen=True)
class World(abc.ABC):
    """A kind of episode."""

    channels: ClassVar[int] = 3
    """Of its pictures."""
    name: str
    """Short name, as in `world=ray_maze_9x9`."""
    id: str
    """Gymnasium id."""
    episode_length: int
    """Observations of a whole episode: steps + 1."""
    context_length: int
    """Observations before the query begins."""
    image_shape: tuple[int, int, int] = (3, 64, 64)
    """Channels, height, width; other sizes by `dataclasses.replace(world, image_shape=(3, 128, 128))`."""
    action_dim: int = 6

    def __post_init__(self) -> None:
        if len(self.image_shape) != 3 or self.image_shape[0] != self.channels:
            raise ValueError(f"image_shape: expected ({self.channels}, height, width), got {self.image_shape}")

    @property
    @abc.abstractmethod
    def registration(self) -> dict[str, Any]:
        """What `gymnasium.register` is told besides the id; raises `ValueError` where there is no environment."""

    @abc.abstractmethod
    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode of the world's own policy, a function of (seed, split, index) alone.

        `image` (T, H, W, C) uint8; `action` (T, A) one-hot float32 that led to each image, zeros at the first; `reward`
        (T,) float32; `is_first`, `is_terminal` (T,) bool; `context_length` () int64; and the world's ground truth. T is
        `episode_length`, or `length` for the first `length` observations of the same episode (the context is then at
        most that long).

        Raises `ValueError` for an unknown split, a negative seed or index, and a length outside 1..`episode_length`.
        """

    def checked_length(self, length: int | None) -> int:
        """`length`, or the whole episode's; raises `ValueError` for one that the world does not have."""
        length = self.episode_length if length is None else length
        if not 1 <= length <= self.episode_length:
            raise ValueError(f"length: expected 1..{self.episode_length} observations of {self.name}, got {length}")
        return length
