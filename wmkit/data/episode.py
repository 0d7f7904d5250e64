"""An episode: named numpy arrays in two groups, and the gate that every episode passes before it is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

STEP_KEYS = ("image", "action", "reward", "is_first", "is_terminal")


@dataclasses.dataclass(frozen=True, eq=False)
class Episode(Mapping[str, Array]):
    """The arrays of one episode; `episode[key]` reads either group.

    Raises `ValueError` for groups that are no dicts, and for a key that is in both.
    """

    steps: dict[str, Array]
    """Leading axis T: `image` (T, H, W, C) uint8, `action` (T, A) float32 (`action[t]` led to `image[t]`, zeros at
    t = 0), `reward` (T,) float32, `is_first`, `is_terminal` (T,) bool, and ground truth of each step."""
    constants: dict[str, Array] = dataclasses.field(default_factory=dict)
    """What holds for the whole episode, of any shape: it has no time axis even where its first axis equals T."""

    def __post_init__(self) -> None:
        for name, group in (("steps", self.steps), ("constants", self.constants)):
            if not isinstance(group, Mapping):
                raise ValueError(f"Episode.{name}: expected a dict of NumPy arrays, got a {type(group).__name__}")
        if both := sorted(self.steps.keys() & self.constants.keys()):
            raise ValueError(f"Episode: {both} are in steps and in constants, expected each key in one of them")

    @property
    def length(self) -> int:
        """Observations T."""
        return len(self.steps["reward"])

    def __getitem__(self, key: str) -> Array:
        return self.steps[key] if key in self.steps else self.constants[key]

    def __iter__(self) -> Iterator[str]:
        yield from self.steps
        yield from self.constants

    def __len__(self) -> int:
        return len(self.steps) + len(self.constants)


def check_episode(
    episode: Episode, where: str, image_shape: tuple[int, int, int] | None = None, action_dim: int | None = None
) -> None:
    """Refuse an episode that training must not see.

    Raises `ValueError`, opening with `where`, for what is no `Episode`, a missing key, what is no NumPy array, a wrong
    dtype, shape or action width, an array of `steps` that is not T long, one of `constants` that is T times the same,
    and for NaN or infinity (with the time step).
    `image_shape` is (C, H, W).
    """
    if not isinstance(episode, Episode):
        raise ValueError(f"{where}: expected a wmkit.data.Episode(steps, constants), got {type(episode)}")
    missing = [key for key in STEP_KEYS if key not in episode.steps]
    if missing:
        raise ValueError(
            f"{where}: missing {missing}; the steps of an episode need {list(STEP_KEYS)}, got {sorted(episode.steps)}"
        )
    for key, array in episode.items():
        if not isinstance(array, np.ndarray | np.generic) or isinstance(array, np.ma.MaskedArray):
            hint = "np.asarray makes one"
            if isinstance(array, Mapping):
                hint = "each of its entries needs a key of its own"
            if isinstance(array, np.ndarray):
                hint = "array.filled(...) says what stands where it is masked"
            raise ValueError(f"{where}: {key}: expected a NumPy array, got a {type(array).__name__}; {hint}")
    image, action = episode["image"], episode["action"]
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[0] < 1:
        raise ValueError(f"{where}: image: expected (T, H, W, C) uint8 with T >= 1, got {image.shape} {image.dtype}")
    length = image.shape[0]
    if image_shape is not None:
        channels, height, width = image_shape
        _check_array("image", image, where, np.dtype(np.uint8), (length, height, width, channels))
    if action.ndim == 1 and action.dtype.kind in "biu":
        raise ValueError(
            f"{where}: action: expected (T, A) float32, got {action.dtype} {action.shape}: one-hot they are "
            "np.eye(A, dtype=np.float32)[action], with zeros at t = 0"
        )
    own = action.shape[1] if action.ndim > 1 else "A"
    for key, dtype, rest in (
        ("action", np.float32, (own if action_dim is None else action_dim,)),
        ("reward", np.float32, ()),
        ("is_first", np.bool_, ()),
        ("is_terminal", np.bool_, ()),
    ):
        _check_array(key, episode[key], where, np.dtype(dtype), (length, *rest))
    if not episode["is_first"][0]:
        raise ValueError(f"{where}: is_first[0] is False, expected True at an episode's first step")
    for key, array in episode.steps.items():
        if array.shape[:1] != (length,):
            raise ValueError(
                f"{where}: {key}: expected a leading axis of T = {length} steps, got {array.shape}; "
                "put it into constants if it has no time axis"
            )
    for key, array in episode.constants.items():
        # What is repeated for every step would be repeated once more in a batch, (B, T, T, ...).
        if array.ndim > 2 and array.shape[0] == length > 1 and (array == array[:1]).all():
            raise ValueError(
                f"{where}: {key}: {length} equal parts {array.shape[1:]} in constants, one for each step; give one of "
                "them, or put all into steps"
            )
    for key, array in episode.items():
        _check_numbers(key, array, where, key in episode.steps)


def _check_array(key: str, array: Array, where: str, dtype: np.dtype[Any], shape: tuple[int | str, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        wanted = str(shape).replace("'", "")
        raise ValueError(f"{where}: {key}: expected {wanted} {dtype}, got {array.shape} {array.dtype}")


def _check_numbers(key: str, array: Array, where: str, per_step: bool) -> None:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{where}: {key}: expected a bool, integer or float array, got {array.dtype}")
    if array.dtype.itemsize > 8 or not array.dtype.isnative:  # neither PyTorch nor the archive holds these
        raise ValueError(
            f"{where}: {key}: expected at most 8 bytes a number in this machine's order, got {array.dtype.str}; "
            "array.astype(np.float32) converts it"
        )
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    place = f" at t = {first[0]}" if per_step else ""
    raise ValueError(f"{where}: {key}{place} is {array[first]} (index {first}); expected finite numbers")
