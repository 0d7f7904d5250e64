"""An episode: a dict of named numpy arrays, and the gate that every episode passes before it is used.

Per step (leading axis T): `image` (T, H, W, C) uint8, `action` (T, A) float32 (`action[t]` led to `image[t]`, zeros at
t = 0), `reward` (T,) float32, `is_first` (T,) bool, `is_terminal` (T,) bool, and ground truth such as `agent_pos`.
Per episode (no time axis): `context_length`, `maze_layout`, ...
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Episode: TypeAlias = dict[str, Array]

STEP_KEYS = ("image", "action", "reward", "is_first", "is_terminal")
CONSTANT_KEYS = frozenset(
    {
        *("context_length", "maze_layout", "map_tiles", "atlas", "targets_pos", "target_colors"),
        *("sample_pos", "sample_color", "answer", "doors_pos", "door_colors", "keys_pos", "key_colors"),
        *("digit_identity", "digit_source"),
    }
)
"""Keys that hold one value per episode even where their first axis happens to equal T."""


def is_per_step(key: str, array: Array, length: int) -> bool:
    """Has `key` a time axis? True iff its leading axis is `length` and its name is not a per-episode constant's."""
    return key not in CONSTANT_KEYS and array.ndim > 0 and array.shape[0] == length


def check_episode(
    episode: Episode, where: str, image_shape: tuple[int, int, int] | None = None, action_dim: int | None = None
) -> None:
    """Refuse an episode that training must not see.

    Raises `ValueError`, opening with `where`, for a missing key, a wrong dtype, shape or action width, and for NaN or
    infinity (with the time step). `image_shape` is (C, H, W).
    """
    missing = [key for key in STEP_KEYS if key not in episode]
    if missing:
        raise ValueError(f"{where}: missing {missing}; an episode needs {list(STEP_KEYS)}, got {sorted(episode)}")
    _check_image(episode["image"], where, image_shape)
    length = episode["image"].shape[0]
    for key, dtype, rest in (
        ("action", np.float32, (episode["action"].shape[-1:][0] if action_dim is None else action_dim,)),
        ("reward", np.float32, ()),
        ("is_first", np.bool_, ()),
        ("is_terminal", np.bool_, ()),
    ):
        _check_array(key, episode[key], where, np.dtype(dtype), (length, *rest))
    if not episode["is_first"][0]:
        raise ValueError(f"{where}: is_first[0] is False, expected True at an episode's first step")
    for key, array in episode.items():
        _check_numbers(key, array, where, is_per_step(key, array, length))


def _check_image(image: Array, where: str, image_shape: tuple[int, int, int] | None) -> None:
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[0] < 1:
        raise ValueError(f"{where}: image: expected (T, H, W, C) uint8 with T >= 1, got {image.shape} {image.dtype}")
    if image_shape is not None:
        channels, height, width = image_shape
        _check_array("image", image, where, np.dtype(np.uint8), (image.shape[0], height, width, channels))


def _check_array(key: str, array: Array, where: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{where}: {key}: expected {shape} {dtype}, got {array.shape} {array.dtype}")


def _check_numbers(key: str, array: Array, where: str, per_step: bool) -> None:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{where}: {key}: expected a bool, integer or float array, got {array.dtype}")
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    place = f" at t = {first[0]}" if per_step else ""
    raise ValueError(f"{where}: {key}{place} is {array[first]} (index {first}); expected finite numbers")
