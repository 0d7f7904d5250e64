"""What every world is: a frozen dataclass of settings, and a pure function from (seed, split, index) to an episode."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import numbers
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
"""By name."""

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}
"""What every environment tells Gymnasium: only what is tested without a screen."""
SPLITS = {"train": 0, "valid": 1, "test": 2}
"""Number of each split in the seed's spawn key."""
SHARES = {"train": range(14), "valid": range(14, 15), "test": range(15, 16)}
"""Which sixteenths of all maps each split has."""
LONGEST_LABEL = 120
"""Characters of a label; settings that take more are told by a digest."""


@dataclasses.dataclass(frozen=True, eq=False)
class Episode(Mapping[str, NDArray[Any]]):
    """The arrays of an episode; `episode[key]` reads either group. Raises `ValueError` for a key that is in both."""

    steps: Arrays
    """What changes: leading axis T."""
    constants: Arrays
    """What holds for the whole episode: no time axis."""

    def __post_init__(self) -> None:
        if both := sorted(self.steps.keys() & self.constants.keys()):
            raise ValueError(f"Episode: {both} are in steps and in constants, expected each key in one of them")

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self.steps[key] if key in self.steps else self.constants[key]

    def __iter__(self) -> Iterator[str]:
        yield from self.steps
        yield from self.constants

    def __len__(self) -> int:
        return len(self.steps) + len(self.constants)


@dataclasses.dataclass(frozen=True)
class EpisodeSeed:
    """Where an episode's randomness comes from: three independent streams per (seed, split, index)."""

    seed: int
    split: str = "train"
    index: int = 0

    def __post_init__(self) -> None:
        for part in ("seed", "index"):
            check_integer(part, getattr(self, part), 0)
            object.__setattr__(self, part, int(getattr(self, part)))  # NumPy's integers are no entropy
        if self.split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {self.split!r}")

    def streams(self, *kind: int) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator]:
        """Generators for the scene, for the order of targets, and for the policy, other ones for another `kind`."""
        root = np.random.SeedSequence(entropy=self.seed, spawn_key=(SPLITS[self.split], self.index, *kind))
        scene, goals, policy = (np.random.default_rng(child) for child in root.spawn(3))
        return scene, goals, policy


def split_of(content: bytes) -> str:
    """The split that has the map of this content, for good: its checksum says so."""
    sixteenth = zlib.crc32(content) % 16
    return next(split for split, share in SHARES.items() if sixteenth in share)


def next_seed(
    last: EpisodeSeed | None, seed: int | None, options: dict[str, Any], random: np.random.Generator
) -> EpisodeSeed:
    """The episode that a `reset` begins: of `seed`, else the one after `last`, else of a seed from `random`.

    `options`: `split` and `index`, which win.
    """
    if seed is None and last is not None:
        return dataclasses.replace(last, **{"index": last.index + 1} | options)
    return EpisodeSeed(int(random.integers(2**31)) if seed is None else seed, **options)


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


def check_action(space: gymnasium.spaces.Discrete, action: Any) -> None:
    """Raise `ValueError` for what is no action of `space`: 1.7 is not 1."""
    if not space.contains(action):
        raise ValueError(f"action: expected an integer in 0..{space.n - 1}, got {action!r}")


def check_integer(setting: str, value: int, least: int, most: int | None = None) -> None:
    """Raise `ValueError`, naming the setting, unless `value` is an integer of `least` or more, at most `most`."""
    if not isinstance(value, numbers.Integral) or value < least or (most is not None and value > most):
        where = f"of at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{setting}: expected an integer {where}, got {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class World(abc.ABC):
    """A kind of episode.

    A subclass is a frozen dataclass whose fields are the settings, each with a default; all else follows from them.
    Worlds of equal settings are equal and have the same episodes. Lists are taken for tuples, so that config files can
    hold settings. Raises `ValueError`, naming the setting, for a value that makes no world.
    """

    action_dim: ClassVar[int]
    """Width A of the action; 0 where nothing acts."""
    in_stem: ClassVar[tuple[str, ...]] = ()
    """Settings that `stem` tells."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _normal(getattr(self, field.name), field.default))

    @property
    def name(self) -> str:
        """Label, safe in file names: `stem`, then every other setting that is not the usual one.

        Equal worlds have equal names, unequal ones of a family different names.
        """
        settings = [field for field in dataclasses.fields(self) if field.name not in self.in_stem]
        unusual = {field.name: getattr(self, field.name) for field in settings}
        usual = {field.name: field.default for field in settings}
        told = "".join(f"_{key}{_text(value)}" for key, value in unusual.items() if value != usual[key])
        if len(self.stem + told) > LONGEST_LABEL:
            told = f"_{_digest(told)}"
        return self.stem + told

    @property
    @abc.abstractmethod
    def stem(self) -> str:
        """Beginning of the name, such as `distracting_memory_100`."""

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    @abc.abstractmethod
    def episode_length(self) -> int:
        """Observations of a whole episode: steps + 1."""

    @property
    @abc.abstractmethod
    def context_length(self) -> int:
        """Observations before the query begins."""

    def with_settings(self, *, image_size: int | None = None, **settings: Any) -> Self:
        """The world with other settings.

        `image_size`, the pixels on a side of the image, is understood by every family, whatever its own field is.
        Raises `TypeError`, in Python's words, for what is no setting of the world: libraries try arguments out.
        """
        if image_size is not None:
            sized = self.sized(image_size)
            if twice := sorted(sized.keys() & settings.keys()):
                raise TypeError(f"{type(self).__name__}() got both image_size and {twice[0]}: expected one of them")
            settings |= sized
        known = ["image_size", *(field.name for field in dataclasses.fields(self) if field.name != "image_size")]
        if unknown := sorted(settings.keys() - set(known)):
            raise TypeError(
                f"{type(self).__name__}() got an unexpected keyword argument {unknown[0]!r}, which is no setting of "
                f"it: expected one of {', '.join(known)}"
            )
        return dataclasses.replace(self, **settings)

    def sized(self, image_size: int) -> dict[str, Any]:
        """The setting that makes images of so many pixels on a side; raises `ValueError` where there is none."""
        return {"image_size": image_size}

    @abc.abstractmethod
    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode of the world's own policy, a function of (seed, split, index) alone.

        Steps: `image` (T, H, W, C) uint8; `action` (T, A) one-hot float32 that led to each image, zeros at the first;
        `reward` (T,) float32; `is_first`, `is_terminal` (T,) bool. Constants: `context_length` () int64. In both the
        world's ground truth. T is `episode_length`, or `length` for the first `length` observations of the same episode
        (the context is then at most that long).

        Raises `ValueError` for an unknown split, a negative seed or index, and a length outside 1..`episode_length`.
        """

    def checked_length(self, length: int | None) -> int:
        """`length`, or the whole episode's; raises `ValueError` for one that the world does not have."""
        length = self.episode_length if length is None else length
        if not 1 <= length <= self.episode_length:
            raise ValueError(f"length: expected 1..{self.episode_length} observations of {self.name}, got {length}")
        return length


def _normal(value: Any, usual: Any) -> Any:
    """Numbers in the type of the usual value and lists as tuples, so that equal worlds have equal names."""
    if isinstance(value, list | tuple):
        like = usual[0] if isinstance(usual, tuple) and usual else None
        return tuple(_normal(part, like) for part in value)
    if isinstance(usual, float) and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    return value


def _text(value: Any, between: str = "-") -> str:
    """A setting in letters that every file system takes."""
    if isinstance(value, tuple):
        return between.join(_text(part, "x") for part in value)
    text = str(value)
    return text if not isinstance(value, str) or (text.isascii() and text.isalnum()) else _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
