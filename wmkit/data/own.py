"""Data of one's own: dicts of arrays as people have them, brought into the form that every episode here has.

What all episodes share (size of the images, width of the actions, which keys) is found by looking at all of them once;
what had to be decided or changed for it is said in sentences, `Form.notes`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from wmkit.checks import check_choice, check_integer
from wmkit.data.episode import STEP_KEYS, Array, Episode, check_episode

SIDES = tuple(sorted(base << n for base in (4, 5) for n in range(1, 9)))
"""Sides of the square images that encoders and decoders take: 4 or 5 times a power of two."""
USUAL_SIDE = 64
"""The largest one that images are brought to where nobody names a size."""
CHANNELS = (1, 3, 4)
MOST_CLASSES = 512
"""Width of one-hot actions up to which nobody is asked whether that is meant."""
RESOLVED = 1000
"""Steps of float32 that the range of other arrays should have: fewer, and their differences are lost."""
Timing = Literal["before", "after"]
_TAKEN = "before: action[t] led to image[t], as everywhere in wmkit; after: action[t] was chosen at image[t]"


class Episodes:
    """A source of episodes held in memory: from dicts of arrays, such as `[{"image": ..., "action": ...}, ...]`.

    Arguments:
        episodes: one dict for each. `image` (T, H, W, C) or, in grey, (T, H, W); uint8, or floats in [0, 1]. `action`
            (T, A) numbers or (T,) integers, which become one-hot; without it the episodes are videos (A = 0). `reward`
            (T,), `is_terminal` (T,) or nothing, which is 0 and False. Other arrays of numbers are kept: T long in every
            episode they are steps, else constants.
        size: side of the images in pixels. None: square ones of a side that models take, up to 64, stay as they are;
            others are resized to the nearest such side, and to a square.
        action_dim: width of one-hot actions; None: what the largest one asks for.
        actions: `before`: `action[t]` led to `image[t]`, and the first one counts for nothing. `after`: `action[t]` was
            chosen at `image[t]`, `reward[t]` followed it; both may be T or T - 1 long, and are moved by one step.

    Images that need no change are shared with the caller, not copied: leave them as they are. What was resized, filled
    in or assumed is a `UserWarning` in one sentence each, kept in `notes`. Raises `ValueError`
    for what makes no episodes, naming the episode and the key.

    """

    def __init__(
        self,
        episodes: Sequence[Mapping[str, Any]],
        *,
        size: int | None = None,
        action_dim: int | None = None,
        actions: Timing = "before",
    ) -> None:
        if isinstance(episodes, str | os.PathLike):
            raise ValueError(
                f"Episodes: expected a list of dicts of arrays, got the path {str(episodes)!r}: wmkit import (in "
                "Python import_folder) makes archives of a folder"
            )
        if isinstance(episodes, Mapping) or not isinstance(episodes, Iterable):
            kind, hint = type(episodes).__name__, ': put it in "[ ]"' if isinstance(episodes, Mapping) else ""
            raise ValueError(f"Episodes: expected a list of dicts, one for each episode, got {kind}{hint}")
        given = [(f"episode {number}", one) for number, one in enumerate(episodes)]
        form = form_of(given, size=size, action_dim=action_dim, actions=actions)
        for note in form.notes:
            warnings.warn(note, stacklevel=2)
        self.notes = form.notes
        self.image_shape, self.action_dim = form.image_shape, form.action_dim
        self._episodes = [form.episode(one, where) for where, one in given]

    @property
    def num_episodes(self) -> int:
        """How many."""
        return len(self._episodes)

    def episode_length(self, index: int) -> int:
        """Observations in episode `index`."""
        return self._episodes[index].length

    def episode(self, index: int) -> Episode:
        """The arrays of episode `index`."""
        if not 0 <= index < len(self._episodes):
            raise IndexError(f"Episodes: there are 0 to {len(self._episodes) - 1}, got {index}")
        return self._episodes[index]


@dataclasses.dataclass(frozen=True)
class Form:
    """What the episodes of a data set have in common, and how each of them is brought to it."""

    side: int
    channels: int
    action_dim: int
    discrete: bool
    """Whether actions are integers (T,), which become one-hot."""
    actions: Timing
    more: Mapping[str, tuple[bool, np.dtype[Any]]]
    """Other keys that are kept: whether they have a time axis, and their type."""
    digest: str
    """Of the names and all arrays of all episodes, as they were given."""
    lengths: tuple[int, ...]
    """Observations of each episode."""
    notes: tuple[str, ...]
    """What was decided or changed, a sentence each."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.side, self.side

    def episode(self, given: Mapping[str, Any], where: str) -> Episode:
        """The episode made of arrays that `form_of` has seen; raises `ValueError` for values that make none."""
        image = _as_bytes(_picture(given, where), where)  # (T, H, W, C) uint8
        if image.shape[-1] == 1 and self.channels == 3:
            image = image.repeat(3, axis=-1)
        image = resized(image[..., : self.channels], self.side)
        length = len(image)
        action = _timed(given, "action", length, self.actions, where)
        if action is None:
            action = np.zeros((length, 0), np.float32)
        elif self.discrete:
            classes = action.astype(np.int64)
            action = np.zeros((length, self.action_dim), np.float32)
            action[np.arange(length), classes] = 1
        action = action.reshape(length, -1).astype(np.float32)
        action[0] = 0
        reward = _timed(given, "reward", length, self.actions, where)
        terminal = _timed(given, "is_terminal", length, self.actions, where)
        steps = {
            "image": image,
            "action": action,
            "reward": np.zeros(length, np.float32) if reward is None else reward.astype(np.float32),
            "is_first": np.arange(length) == 0,
            "is_terminal": np.zeros(length, bool) if terminal is None else terminal.astype(bool),
        }
        constants: dict[str, Array] = {}
        for key, (per_step, dtype) in self.more.items():
            with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused below
                (steps if per_step else constants)[key] = _array(given, key, where).astype(dtype)
        episode = Episode(steps, constants)
        check_episode(episode, where, self.image_shape, self.action_dim)
        return episode


def form_of(
    episodes: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    size: int | None = None,
    action_dim: int | None = None,
    actions: Timing = "before",
) -> Form:
    """Look at all episodes, each with what to call it, for what they have in common; see `Episodes`.

    Raises `ValueError`, opening with the name of the episode, for what makes none.
    """
    check_choice("actions", actions, ("before", "after"))
    if size is not None and check_integer("size", size, 1) not in SIDES:
        raise ValueError(f"size: expected a side that models take, {', '.join(map(str, SIDES))}, got {size}")
    if action_dim is not None:
        check_integer("action_dim", action_dim, 1)
    seen = [_look(where, given, actions) for where, given in episodes]
    if not seen:
        raise ValueError("Episodes: expected at least one, got none")
    notes: list[str] = []
    side = _side_for({one.size for one in seen}, size, notes)
    channels = _channels_for({one.channels for one in seen}, notes)
    if any(one.floats for one in seen):
        notes.append("Images are floats: 0 to 1 became 0 to 255.")
    if any(one.masks for one in seen):
        notes.append("Images are True and False: they became 255 and 0.")
    elif 0 < max(one.brightest * (255 if one.floats else 1) for one in seen) < 2:
        notes.append("Images are nearly black, nowhere above 1 of 255: multiply them by 255, unless that is meant.")
    if ended := [one.where for one in seen if one.ends_inside]:
        notes.append(
            f"is_terminal is True before the last step in {len(ended)} episodes, the first is {ended[0]}: if several "
            "episodes stand one after another, split them there."
        )
    width, discrete = _width_for(seen, action_dim, actions, notes)
    more: dict[str, tuple[bool, np.dtype[Any]]] = {}
    for key in sorted(set().union(*(one.more for one in seen))):
        found = [one.more.get(key) for one in seen]
        arrays = [one for one in found if one is not None]
        per_step = all(shape[:1] == (one.length,) for one, (shape, _) in zip(seen, arrays, strict=False))
        shapes = {shape[1:] if per_step else shape for shape, _ in arrays}
        if len(arrays) < len(seen) or len(shapes) > 1 or any(dtype.kind not in "biuf" for _, dtype in arrays):
            notes.append(f"{key!r} is left out: it is not there, or no array of numbers of one shape, in all episodes.")
            continue
        if not key.isidentifier():
            where = next(one.where for one in seen if key in one.more)
            name = re.sub(r"\W+", "_", key).strip("_") or "name"
            raise ValueError(
                f"{where}: {key!r}: expected a name of letters, digits and _, as files in archives have; rename it, "
                f"with wmkit import by --rename {key}={name}"
            )
        if not per_step and all(shape[:1] == (one.length - 1,) for one, (shape, _) in zip(seen, arrays, strict=True)):
            notes.append(
                f"{key!r} has one row less than image: it is kept as a constant, and not moved as action and reward "
                "are."
            )
        if key in set().union(*(one.coarse for one in seen)):
            notes.append(f"{key!r} loses its differences as float32, which is kept: subtract its first value.")
        dtype = np.result_type(*(dtype for _, dtype in arrays))
        more[key] = (per_step, np.dtype(np.float32) if dtype.kind == "f" else dtype)
    if copies := len(seen) - len({one.digest for one in seen}):
        notes.append(f"Copies of other episodes: {copies}. One may come to be trained on, and the other tested on.")
    lengths = tuple(one.length for one in seen)
    digest = hashlib.sha256(repr([(one.where, one.content) for one in seen]).encode()).hexdigest()
    return Form(side, channels, width, discrete, actions, more, digest, lengths, tuple(notes))


def resized(image: Array, side: int) -> Array:
    """Images (T, H, W, C) uint8 at side x side pixels; each channel by Pillow, smoothed where it gets smaller."""
    if image.shape[1:3] == (side, side):
        return image
    from PIL import Image

    out = np.empty((len(image), side, side, image.shape[-1]), np.uint8)
    for t, c in np.ndindex(len(image), image.shape[-1]):
        plane = Image.fromarray(np.ascontiguousarray(image[t, ..., c]))
        out[t, ..., c] = np.asarray(plane.resize((side, side), Image.Resampling.BILINEAR))
    return out


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What matters of one episode to the others."""

    where: str
    length: int
    size: tuple[int, int]
    """(H, W)."""
    channels: int
    floats: bool
    masks: bool
    """Whether images are True and False."""
    brightest: float
    action: int | None
    """The width of actions that are floats, or what integers ask for; None without actions."""
    discrete: bool
    begins: bool
    """Whether the first action is another than zero, or a class."""
    ends_inside: bool
    """Whether `is_terminal` is True before the last step."""
    more: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
    """Shapes and types of other keys."""
    coarse: set[str]
    """Those whose values float32 does not tell apart."""
    digest: bytes
    """Of images and actions."""
    content: bytes
    """Of all arrays, their names, shapes and types."""


def _look(where: str, given: Mapping[str, Any], actions: Timing) -> _Seen:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: expected a dict of arrays such as image and action, got {type(given).__name__}")
    if odd := [key for key in given if not isinstance(key, str)]:
        raise ValueError(f"{where}: {odd[0]!r}: expected names as keys, got {type(odd[0]).__name__}")
    image = _picture(given, where)
    length = len(image)
    action = _timed(given, "action", length, actions, where)
    width, discrete, begins = None, False, False
    if action is not None:
        discrete = action.ndim == 1 and action.dtype.kind in "biu"
        if action.ndim > 2:
            raise ValueError(f"{where}: action: expected (T, A) numbers or (T,) integers, got {action.shape}")
        if action.ndim == 2 and action.shape[1] == 1 and action.dtype.kind in "biu":
            raise ValueError(
                f"{where}: action: integers {action.shape} can be read in two ways: give (T,) for one-hot, or floats"
            )
        if discrete and action.min() < 0:
            raise ValueError(f"{where}: action: expected integers from 0 on, got {action.min()}")
        width = int(action.max()) + 1 if discrete else int(action.reshape(length, -1).shape[1])
        begins = actions == "before" and (discrete or bool(np.any(action[0])))
    ends_inside = False
    for key in ("reward", "is_terminal"):
        value = _timed(given, key, length, actions, where)
        if value is None:
            continue
        if value.ndim != 1:
            raise ValueError(f"{where}: {key}: expected (T,) = ({length},), got {value.shape}")
        if key == "is_terminal":
            _check_flags(key, value, where)
            ends_inside = bool(value[:-1].any())
    if "is_first" in given:
        value = _array(given, "is_first", where)
        if value.shape != (length,):
            raise ValueError(f"{where}: is_first: expected (T,) = ({length},), True at t = 0 alone, got {value.shape}")
        _check_flags("is_first", value, where)
        if (again := np.flatnonzero(value[1:])).size:
            raise ValueError(
                f"{where}: another episode begins inside it, is_first at t = {again[0] + 1}: split it there and give "
                "both"
            )
    more, coarse = {}, set()
    for key in sorted(set(given) - set(STEP_KEYS)):
        value = _array(given, key, where, needed=False)
        more[key] = (value.shape, value.dtype)
        if value.dtype.kind == "f" and value.size and np.isfinite(value).all():
            low, high = float(value.min()), float(value.max())
            with np.errstate(over="ignore"):
                if 0 < high - low < RESOLVED * float(np.spacing(np.float32(max(abs(low), abs(high))))):
                    coarse.add(key)
    height, width_, channels = image.shape[1:]
    digest = hashlib.sha256(image.tobytes() + (b"" if action is None else action.tobytes())).digest()
    content = hashlib.sha256(digest)
    for key in sorted(given):
        value = image if key == "image" else _array(given, key, where, needed=False)
        content.update(f"{key} {value.dtype.str} {value.shape}".encode())
        if key != "image" and value.dtype.kind != "O":  # whose bytes are addresses
            content.update(value.tobytes())
    return _Seen(
        where=where,
        length=length,
        size=(height, width_),
        channels=channels,
        floats=image.dtype.kind == "f",
        masks=image.dtype.kind == "b",
        brightest=float(image.max()),
        action=width,
        discrete=discrete,
        begins=begins,
        ends_inside=ends_inside,
        more=more,
        coarse=coarse,
        digest=digest,
        content=content.digest(),
    )


def _check_flags(key: str, value: Array, where: str) -> None:
    """Refuse what is neither 0 nor 1, which would count as True."""
    if (wrong := np.flatnonzero((value != 0) & (value != 1))).size:
        raise ValueError(f"{where}: {key} at t = {wrong[0]} is {value[wrong[0]]}, expected True or False, 1 or 0")


def _array(given: Mapping[str, Any], key: str, where: str, *, needed: bool = True) -> Array:
    """`given[key]`; raises `ValueError` for Python objects, which no array of numbers holds, if it is `needed`."""
    try:
        found = given[key]
        value = np.asarray(found)
    except ValueError as error:  # of an .npz that would have to be unpickled, or of rows of different lengths
        if not needed:
            return np.empty(0, object)
        raise ValueError(f"{where}: {key}: expected one array of numbers, got Python objects ({error})") from error
    except (TypeError, RuntimeError) as error:  # PyTorch's, of tensors with a gradient, on a GPU, or in bfloat16
        raise ValueError(f"{where}: {key}: {error}; tensor.detach().float().cpu().numpy() makes an array") from error
    if isinstance(found, np.ma.MaskedArray):
        raise ValueError(f"{where}: {key}: it is masked; array.filled(...) says what stands where it is")
    if needed and value.dtype.kind not in "biuf":
        raise ValueError(f"{where}: {key}: expected an array of numbers, got {value.dtype}")
    return value


def _picture(given: Mapping[str, Any], where: str) -> Array:
    """The images (T, H, W, C) as they are, grey ones with an axis more."""
    if "image" not in given:
        raise ValueError(
            f"{where}: no 'image' among {sorted(map(str, given))}; an episode needs image (T, H, W, C) and, unless it "
            "is a mere video, action. Rename what is called otherwise"
        )
    image = _array(given, "image", where)
    if image.ndim == 3 and image.shape[2] in (3, 4):
        raise ValueError(
            f"{where}: image: expected (T, H, W, C) or (T, H, W), yours looks like one picture (H, W, C): "
            f"{image.shape}; give a sequence of them"
        )
    if image.ndim == 3:
        image = image[..., None]
    if image.ndim != 4 or 0 in image.shape:
        raise ValueError(f"{where}: image: expected (T, H, W, C), all of them at least 1, got {image.shape}")
    if image.shape[3] not in CHANNELS and image.shape[1] < min(image.shape[2:]):
        raise ValueError(
            f"{where}: image: expected (T, H, W, C), yours looks like (T, C, H, W): {image.shape}; give "
            "image.transpose(0, 2, 3, 1)"
        )
    return image


def _as_bytes(image: Array, where: str) -> Array:
    """uint8; raises `ValueError` for values that are neither 0..255 nor, as floats, 0..1."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * np.uint8(255)
    low, high = image.min(), image.max()
    if image.dtype.kind in "iu" and low >= 0 and high <= 255:
        return image.astype(np.uint8)
    if image.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.round(image * 255).astype(np.uint8)
    raise ValueError(
        f"{where}: image: expected uint8 in 0..255 or floats in [0, 1], got {image.dtype} from {low} to {high}"
    )


def _timed(given: Mapping[str, Any], key: str, length: int, actions: Timing, where: str) -> Array | None:
    """What an episode says of each of its steps, `action[t]` and `reward[t]` those that led to `image[t]`."""
    if key not in given:
        return None
    value = _array(given, key, where)
    if value.ndim < 1 or len(value) not in ((length,) if actions == "before" else (length, length - 1)):
        raise ValueError(_other_length(value, key, length, actions, where))
    if actions == "before" or (len(value) == length and key == "is_terminal"):
        return value
    return np.concatenate([np.zeros((1, *value.shape[1:]), value.dtype), value[: length - 1]])


def _other_length(value: Array, key: str, length: int, actions: Timing, where: str) -> str:
    text = f"{where}: {key}: expected {length} steps, as image has, got {value.shape}"
    if actions == "before" and value.shape[:1] == (length - 1,):
        return (
            f"{text}. In wmkit action[t] and reward[t] led to image[t]. If yours were chosen at image[t], say "
            "actions='after' (wmkit import: --actions after), which puts zeros first"
        )
    return text


def _side_for(sizes: set[tuple[int, int]], size: int | None, notes: list[str]) -> int:
    """The side of all images: as asked for, theirs, or the nearest one that models take."""
    shorter = min(min(pair) for pair in sizes)
    side = size or min(USUAL_SIDE, min(SIDES, key=lambda one: abs(one - shorter)))
    others = sorted(pair for pair in sizes if pair != (side, side))
    stretched = [pair for pair in others if pair[0] != pair[1]]
    if stretched or (others and size is None):
        named = ", ".join(f"{height} x {width}" for height, width in others[:3]) + (", ..." if len(others) > 3 else "")
        changed = ", which changes their proportions" if stretched else ""
        notes.append(f"Images of {named} pixels (height x width) are resized to {side} x {side}{changed}.")
    return side


def _channels_for(found: set[int], notes: list[str]) -> int:
    if len(found) == 1 and 4 not in found:
        return found.pop()
    if not found <= set(CHANNELS):
        raise ValueError(f"image: expected the same number of channels in all episodes, got {sorted(found)}")
    if 4 in found:
        notes.append("Images with four channels lose the last one, transparency.")
    if 1 in found:
        notes.append("Some episodes are in grey, others in colour: the grey ones get three equal channels.")
    return 3


def _width_for(seen: Sequence[_Seen], given: int | None, actions: Timing, notes: list[str]) -> tuple[int, bool]:
    """The width of the actions, and whether they are classes; raises `ValueError` where the episodes disagree."""
    first = seen[0]
    for one in seen:
        if (one.action is None) != (first.action is None):
            without, with_ = (one, first) if one.action is None else (first, one)
            raise ValueError(f"{without.where}: no 'action', but {with_.where} has one: all episodes or none")
        if one.discrete != first.discrete or (not one.discrete and one.action != first.action):
            kinds = [f"{x.action} numbers" if not x.discrete else "integers (T,)" for x in (first, one)]
            raise ValueError(f"{one.where}: action: {kinds[1]}, but {kinds[0]} in {first.where}: all alike, please")
    if first.action is None:
        if given is not None:
            raise ValueError(f"action_dim: {given}, but there are no actions: leave it out for videos")
        notes.append("There are no actions: the model will be one of video alone (action_dim 0).")
        return 0, False
    width = max(one.action or 0 for one in seen)
    if not first.discrete:
        if given not in (None, width):
            raise ValueError(f"action_dim: {given}, but actions have {width} numbers each")
        if any(one.begins for one in seen):
            notes.append(f"The first action of an episode is not zero and counts for nothing ({_TAKEN}).")
        return width, False
    if given is None and width > MOST_CLASSES:
        where = next(one.where for one in seen if one.action == width)
        raise ValueError(
            f"{where}: action: integers up to {width - 1} would become one-hot of width {width}. If these are classes, "
            f"say action_dim={width} (wmkit import: --action-dim); if numbers, give floats (T, A)"
        )
    if given is None:
        notes.append(f"Integer actions become one-hot of width {width}, the largest one and 0 counted.")
    elif given < width:
        raise ValueError(f"action_dim: {given}, but the largest action is {width - 1}: expected at least {width}")
    if actions == "before":
        notes.append(f"The first action of an episode counts for nothing ({_TAKEN}).")
    return given or width, True
