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
import re
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.video.digits import NAMES, SIDE, Digits, load_digits, source_of
from wmkit_envs.world import Draw, Episode, World

PICTURE = 64
"""Pixels on a side, as published."""
SPEEDS = {"": 1.0, "slow": 1 / 3, "fast": 3.0}
NAME = r"moving_mnist(?:_(slow|fast))?(?:_(32|64)px)?"
ID = r"wmkit/MovingMNIST(Slow|Fast)?(?:-(32)px)?-v0"


@dataclasses.dataclass(frozen=True)
class MovingMnist(World):
    """A video without actions: `action` is (T, 0), reward 0. No Gymnasium environment, for nothing acts in it."""

    channels: ClassVar[int] = 1
    image_shape: tuple[int, int, int] = (1, PICTURE, PICTURE)
    """Or (1, 32, 32): everything half as large, speeds too."""
    action_dim: int = 0
    digits: int = 2
    speed_factor: float = 1.0
    """1/3 and 3 in TALD's section on speed."""
    speeds: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0)
    """Pixels of a 64x64 picture per frame, uniformly drawn for each digit. Published: 2 to 6; guess: whole numbers,
    in a direction that is uniform on the circle."""
    mnist: str | None = None
    """Folder of MNIST's idx files; None: see `wmkit_envs.video.digits.load_digits`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_shape[1:] not in ((32, 32), (64, 64)):
            raise ValueError(f"image_shape: expected (1, 64, 64) or (1, 32, 32), got {self.image_shape}")
        if self.digits < 1 or self.speed_factor < 0 or not self.speeds or min(self.speeds) < 0:
            raise ValueError(
                "Expected at least one digit, a speed_factor of at least 0 and speeds of at least 0, got "
                f"digits={self.digits}, speed_factor={self.speed_factor}, speeds={self.speeds}"
            )

    @property
    def registration(self) -> dict[str, Any]:
        """None: raises `ValueError`."""
        raise ValueError(f"{self.name} is a video, in which nothing acts: use generate(), there is no environment")

    @property
    def local_data(self) -> dict[str, Any]:
        """Which pictures of digits this machine has for it."""
        return {"digits": NAMES[source_of(self.mnist)]}

    @property
    def digit_side(self) -> int:
        """Pixels on a side of a digit's picture, margin included."""
        return SIDE * self.image_shape[1] // PICTURE

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode, see `World.generate`; no picture of a digit is in two splits. Of K digits it also holds

        `digit_pos` (T, K, 2) float32, (x, y) of the middle of each one's square, in pixels from the upper left corner,
        not rounded; `digit_velocity` (T, K, 2), pixels per step with which it leaves that place; and, once,
        `digit_identity` (K,) int64, 0 to 9, and `digit_source` () int64, 0 scikit-learn, 1 MNIST. The same (seed,
        split, index) at another speed or size shows the same digits on the same paths.
        """
        length = self.checked_length(length)
        look, _, motion = Draw(seed, split, index).streams()
        known = load_digits(self.mnist, split, self.digit_side)
        chosen = look.integers(len(known.label), size=self.digits)
        left, velocity = self._move(motion, length)
        return {
            "image": self._picture(known, chosen, left),
            "action": np.zeros((length, 0), np.float32),
            "reward": np.zeros(length, np.float32),
            "is_first": np.arange(length) == 0,
            "is_terminal": np.zeros(length, np.bool_),
            "context_length": np.array(min(self.context_length, length), np.int64),
            "digit_pos": (left + self.digit_side / 2).astype(np.float32),
            "digit_velocity": velocity.astype(np.float32),
            "digit_identity": known.label[chosen],
            "digit_source": np.array(known.source, np.int64),
        }

    def _move(self, rng: np.random.Generator, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Upper left corners and velocities, (T, K, 2) each."""
        room, scale = self.image_shape[1] - self.digit_side, self.image_shape[1] / PICTURE
        start = rng.uniform(0, room, (self.digits, 2))
        angle = rng.uniform(-np.pi, np.pi, self.digits)
        speed = rng.choice(self.speeds, self.digits) * scale * self.speed_factor
        velocity = speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        way = np.mod(start + velocity * np.arange(length)[:, None, None], 2 * room)
        return room - np.abs(room - way), np.where(way < room, velocity, -velocity)

    def _picture(self, known: Digits, chosen: NDArray[np.int64], left: NDArray[np.float64]) -> NDArray[np.uint8]:
        """(T, H, W, 1): the sum of the digits, at most 255."""
        side, room = self.image_shape[1], self.image_shape[1] - self.digit_side
        corner = np.rint(left).astype(np.int64)
        total = np.zeros((len(left), side, side), np.uint8)
        for k, number in enumerate(chosen):
            # a window of the digit on a wide black ground, as far from its corner as the digit is from the picture's
            windows = np.lib.stride_tricks.sliding_window_view(np.pad(known.image[number], room), (side, side))
            moved = windows[room - corner[:, k, 1], room - corner[:, k, 0]]
            total += np.minimum(moved, 255 - total)
        return total[..., None]


def moving_mnist(speed: str = "", side: int = PICTURE, **settings: Any) -> MovingMnist:
    """The world of a speed, "", "slow" or "fast", with pictures of 64 or 32 pixels; settings: its fields."""
    size = "" if side == PICTURE else f"{side}px"
    own: dict[str, Any] = {
        "name": "_".join(filter(None, ("moving_mnist", speed, size))),
        "id": "-".join(filter(None, (f"wmkit/MovingMNIST{speed.capitalize()}", size, "v0"))),
        "image_shape": (1, side, side),
        "speed_factor": SPEEDS[speed],
    }
    return MovingMnist(**{**own, "episode_length": 1000, "context_length": 36} | settings)


def find_moving_mnist(name: str) -> MovingMnist | None:
    """The world of a short name or an id; None for any other name."""
    match = re.fullmatch(NAME, name) or re.fullmatch(ID, name)
    return moving_mnist((match[1] or "").lower(), int(match[2] or PICTURE)) if match else None
