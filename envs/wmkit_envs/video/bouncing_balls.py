"""Bouncing Balls: balls fly through a black box and take another colour at every wall; when does a segment begin?

    w(t + 1) = w(t) + v [cos a(t), sin a(t)],   a(t + 1) = a(t) + turn * noise,   noise ~ Normal(0, 1)
    pos(t)   = radius + fold(w(t)),   fold(u) = R - |R - (u mod 2R)|,   R = side of the picture - 2 radius

w is the way as it would be without walls; folded on each axis it is reflected at them without losing a part of a step.
A ball has bounced between t - 1 and t where floor(w / R) differs on either axis, and is then shown in another colour.
A boundary is a step at which any ball does so: what happens in between can be foretold but for the noise, the new
colour and, from far, the moment of the bounce cannot. Balls do not meet: where two overlap the last one is in front.

Source: Kim, Ahn, Bengio, Variational Temporal Abstraction, 2019, whose data and generator are not published: what is
not known of them is a field whose docstring says "guess".
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.world import Episode, EpisodeSeed, World, check_integer

USUAL_SIDE = 64
"""Pixels on a side of the image, in which sizes and speeds are given."""
COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "white": (255, 255, 255),
}
"""What a ball can look like."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BouncingBalls(World):
    """A video without actions: `action` is (T, 0), reward 0. No Gymnasium environment, for nothing acts in it.

    100 observations, of which 20 are context: T of the paper.
    """

    action_dim: ClassVar[int] = 0
    side: int = USUAL_SIDE
    """Pixels on a side of the image, 8 to 1024; balls and speeds grow with it. Guess."""
    balls: int = 2
    """Balls in the image, at least 1. Published: two, which do not meet."""
    radius: float = 5.0
    """Of a ball, in pixels of a 64x64 image. Guess."""
    speeds: tuple[float, ...] = (3.0, 4.0, 5.0)
    """Pixels of a 64x64 image per frame, uniformly drawn for each ball; it keeps its speed. Guess: with two balls and
    a uniform direction there are then 3 or 4 boundaries in 20 steps, where the model's prior expects up to 5."""
    turn: float = 0.05
    """Standard deviation, in radians, of what is added to a ball's direction at every step. Published: a small noise on
    the velocity; guess: how much, and that it leaves the speed alone."""
    colors: tuple[str, ...] = ("red", "green", "blue", "yellow", "magenta", "cyan")
    """Names in `COLORS`, two or more: a ball begins in any of them and takes any other one at a wall. Published: a
    random change; guess: which there are, and never to the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("side", self.side, 8, 1024)
        check_integer("balls", self.balls, 1)
        if not isinstance(self.radius, float) or not 0 < self.radius < USUAL_SIDE / 2:
            raise ValueError(f"radius: expected more than 0 and less than {USUAL_SIDE // 2}, got {self.radius!r}")
        if not isinstance(self.speeds, tuple) or not self.speeds or not all(_is_amount(one) for one in self.speeds):
            raise ValueError(f"speeds: expected one or more of at least 0, got {self.speeds!r}")
        if not _is_amount(self.turn):
            raise ValueError(f"turn: expected radians of at least 0, got {self.turn!r}")
        known = isinstance(self.colors, tuple) and set(self.colors) <= COLORS.keys()
        if not known or len(self.colors) < 2 or len(set(self.colors)) < len(self.colors):
            raise ValueError(f"colors: expected two or more different ones of {', '.join(COLORS)}, got {self.colors!r}")

    @property
    def stem(self) -> str:
        return "bouncing_balls"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 3, self.side, self.side

    @property
    def episode_length(self) -> int:
        return 100

    @property
    def context_length(self) -> int:
        return 20

    def sized(self, image_size: int) -> dict[str, Any]:
        return {"side": image_size}

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode, see `World.generate`. Of K balls it also holds

        `boundary` (T,) bool, whether a ball shows another colour than a step before, False at the first one;
        `ball_pos` (T, K, 2) float32, (x, y) of each one's middle, in pixels from the upper left corner;
        `ball_velocity` (T, K, 2) float32, pixels per step with which it leaves that place;
        `ball_color` (T, K, 3) float32, RGB in [0, 1].
        The same (seed, split, index) at another size shows the same balls on the same paths.
        """
        length = self.checked_length(length)
        look, change, motion = EpisodeSeed(seed, split, index).streams()
        place, velocity, bounced = self._move(motion, length)
        first = look.integers(len(self.colors), size=self.balls)
        steps_on = change.integers(1, len(self.colors), size=(length, self.balls))  # so never to the same colour
        number = (first + np.cumsum(bounced * steps_on, axis=0)) % len(self.colors)  # (T, K)
        color = np.array([COLORS[name] for name in self.colors])[number] / 255  # (T, K, 3)
        scale = self.side / USUAL_SIDE
        steps = {
            "image": self._picture(place * scale, color),
            "action": np.zeros((length, 0), np.float32),
            "reward": np.zeros(length, np.float32),
            "is_first": np.arange(length) == 0,
            "is_terminal": np.zeros(length, np.bool_),
            "boundary": bounced.any(1),
            "ball_pos": (place * scale).astype(np.float32),
            "ball_velocity": (velocity * scale).astype(np.float32),
            "ball_color": color.astype(np.float32),
        }
        return Episode(steps, {"context_length": np.array(min(self.context_length, length), np.int64)})

    def _move(
        self, rng: np.random.Generator, length: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Middles and velocities (T, K, 2) in a 64x64 image, and (T, K) who has bounced since the step before."""
        room = USUAL_SIDE - 2 * self.radius
        start = rng.uniform(0, room, (self.balls, 2))
        angle = rng.uniform(-np.pi, np.pi, self.balls)
        speed = rng.choice(self.speeds, self.balls)
        angle = angle + self.turn * np.cumsum(rng.standard_normal((length, self.balls)), axis=0)  # (T, K)
        free = speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)  # (T, K, 2), without walls
        way = start + np.concatenate([np.zeros_like(free[:1]), np.cumsum(free[:-1], axis=0)])  # (T, K, 2)
        walls = np.floor(way / room)  # how many have been met, towards either side
        bounced = np.diff(walls, axis=0, prepend=walls[:1]).any(-1)
        # an odd number of walls turns the way around
        return (
            self.radius + room - np.abs(room - np.mod(way, 2 * room)),
            np.where(walls % 2 == 0, free, -free),
            bounced,
        )

    def _picture(self, place: NDArray[np.float64], color: NDArray[np.float64]) -> NDArray[np.uint8]:
        """(T, H, W, 3): discs with smooth edges, one after another."""
        radius = self.radius * self.side / USUAL_SIDE
        reach = math.ceil(radius + 0.5)
        near = np.arange(-reach, reach + 1)
        frames = np.arange(len(place))[:, None, None]
        # the margin takes the corners of what is drawn around a ball at a wall
        image = np.zeros((len(place), *[self.side + 2 * reach] * 2, 3), np.uint8)
        for k in range(self.balls):
            pixel = np.floor(place[:, k, :, None]).astype(np.int64) + near  # (T, 2, P)
            square = (pixel + 0.5 - place[:, k, :, None]) ** 2  # (T, 2, P)
            away = np.sqrt(square[:, 1, :, None] + square[:, 0, None, :])  # (T, P, P)
            cover = np.clip(radius + 0.5 - away, 0, 1)[..., None]  # share of a pixel, nearly
            where = frames, pixel[:, 1, :, None] + reach, pixel[:, 0, None, :] + reach
            image[where] = np.rint(cover * (255 * color[:, k, None, None]) + (1 - cover) * image[where])
        return np.ascontiguousarray(image[:, reach:-reach, reach:-reach])


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < np.inf
