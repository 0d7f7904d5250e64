"""Moving MNIST: two digits fly through a black square and bounce off its walls; which are they, where will they be?

    left(t) = fold(left(0) + v t),   fold(u) = R - |R - (u mod 2R)|,   R = side of the picture - side of a digit

on each axis: between the walls a digit keeps its velocity, at a wall the rest of its way is reflected. The classic
script lets a digit overshoot by up to two pixels and turns it around at the next frame, so that where it is depends on
when it was looked at. Exact reflection has a closed form, with which any frame can be drawn without those before it,
and the same motion at another speed is the same path.

Pictures show digits at the nearest whole pixel, added and clipped, as the classic script does. After the first frame
nothing is random.

Source: Srivastava et al. 2015; lengths and speeds as in CW-VAE (Saxena et al. 2021) and TALD. Their generator is not
published: what is not known of it is a field whose docstring says "guess".
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.video.digits import NAMES, SIDE, Digits, load_digits, missing_digits, source_of
from wmkit_envs.world import Episode, EpisodeSeed, World, check_integer

USUAL_SIDE = 64
"""Pixels on a side of the image, as published."""
SLOW, FAST = 1 / 3, 3.0
"""The speeds of TALD's section on speed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingMnist(World):
    """A video without actions: `action` is (T, 0), reward 0. No Gymnasium environment, for nothing acts in it.

    1000 observations, of which 36 are context.
    """

    action_dim: ClassVar[int] = 0
    in_stem: ClassVar[tuple[str, ...]] = ("speed",)
    speed: float = 1.0
    """Factor on the speed of every digit; 1/3 and 3 in TALD's section on speed."""
    side: int = USUAL_SIDE
    """Pixels on a side of the image: 64, or 32, where everything is half as large, speeds too."""
    digits: int = 2
    """Digits in the image, at least 1."""
    speeds: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0)
    """Pixels of a 64x64 image per frame, uniformly drawn for each digit. Published: 2 to 6; guess: whole numbers,
    in a direction that is uniform on the circle."""
    mnist: str | None = None
    """Folder of MNIST's idx files; None: see `wmkit_envs.video.digits.load_digits`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("digits", self.digits, 1)
        if self.side not in (32, 64):
            raise ValueError(f"side: expected 64 or 32 pixels, got {self.side!r}")
        if not isinstance(self.speed, numbers.Real) or not 0 <= self.speed < np.inf:
            raise ValueError(f"speed: expected a factor of at least 0, got {self.speed!r}")
        if not isinstance(self.speeds, tuple) or not self.speeds or not all(0 <= one < np.inf for one in self.speeds):
            raise ValueError(f"speeds: expected one or more of at least 0, got {self.speeds!r}")

    @property
    def missing(self) -> str:
        """The command that installs what this world needs beyond wmkit itself; empty where all is there."""
        return missing_digits(self.mnist)

    @property
    def stem(self) -> str:
        speed = {1.0: "", SLOW: "_slow", FAST: "_fast"}.get(self.speed, f"_speed{self.speed}")
        return f"moving_mnist{speed}"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, self.side, self.side

    @property
    def episode_length(self) -> int:
        return 1000

    @property
    def context_length(self) -> int:
        return 36

    @property
    def local_data(self) -> dict[str, Any]:
        """Which pictures of digits this machine has for it."""
        return {"digits": NAMES[source_of(self.mnist)]}

    def sized(self, image_size: int) -> dict[str, Any]:
        return {"side": image_size}

    @property
    def digit_side(self) -> int:
        """Pixels on a side of a digit's picture, margin included."""
        return SIDE * self.side // USUAL_SIDE

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode, see `World.generate`; no picture of a digit is in two splits. Of K digits it also holds

        `digit_pos` (T, K, 2) float32, (x, y) of the middle of each one's square, in pixels from the upper left corner,
        not rounded; `digit_velocity` (T, K, 2), pixels per step with which it leaves that place; and, once,
        `digit_identity` (K,) int64, 0 to 9, and `digit_source` () int64, 0 scikit-learn, 1 MNIST. The same (seed,
        split, index) at another speed or size shows the same digits on the same paths.
        """
        length = self.checked_length(length)
        look, _, motion = EpisodeSeed(seed, split, index).streams()
        known = load_digits(self.mnist, split, self.digit_side)
        chosen = look.integers(len(known.label), size=self.digits)
        left, velocity = self._move(motion, length)
        steps = {
            "image": self._picture(known, chosen, left),
            "action": np.zeros((length, 0), np.float32),
            "reward": np.zeros(length, np.float32),
            "is_first": np.arange(length) == 0,
            "is_terminal": np.zeros(length, np.bool_),
            "digit_pos": (left + self.digit_side / 2).astype(np.float32),
            "digit_velocity": velocity.astype(np.float32),
        }
        constants = {
            "context_length": np.array(min(self.context_length, length), np.int64),
            "digit_identity": known.label[chosen],
            "digit_source": np.array(known.source, np.int64),
        }
        return Episode(steps, constants)

    def _move(self, rng: np.random.Generator, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Upper left corners and velocities, (T, K, 2) each."""
        room, scale = self.side - self.digit_side, self.side / USUAL_SIDE
        start = rng.uniform(0, room, (self.digits, 2))
        angle = rng.uniform(-np.pi, np.pi, self.digits)
        speed = rng.choice(self.speeds, self.digits) * scale * self.speed
        velocity = speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        way = np.mod(start + velocity * np.arange(length)[:, None, None], 2 * room)
        return room - np.abs(room - way), np.where(way < room, velocity, -velocity)

    def _picture(self, known: Digits, chosen: NDArray[np.int64], left: NDArray[np.float64]) -> NDArray[np.uint8]:
        """(T, H, W, 1): the sum of the digits, at most 255."""
        room = self.side - self.digit_side
        corner = np.rint(left).astype(np.int64)
        total = np.zeros((len(left), self.side, self.side), np.uint8)
        for k, number in enumerate(chosen):
            # a window of the digit on a wide black ground, as far from its corner as the digit is from the picture's
            windows = np.lib.stride_tricks.sliding_window_view(np.pad(known.image[number], room), (self.side,) * 2)
            moved = windows[room - corner[:, k, 1], room - corner[:, k, 0]]
            total += np.minimum(moved, 255 - total)
        return total[..., None]
