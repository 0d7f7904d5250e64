"""Distracting Memory: which square had the colour of the sample, after a corridor full of other colours?

MiniGrid's MemoryEnv, `width` cells wide and 9 high, with coloured squares in place of its objects and more of them,
which mean nothing, in the hall. The agent starts in the middle of the hall, walks to its end, back to the sample in the
room at the left, and to the middle: the context. The query walks to the end and turns up or down there.

    #########...      target at (W-2, 2)
    #       #         success or failure at (W-2, 3)
    #####   # ... #
    #   #####...##    hall row 4, room x = 1..3, y = 3..5
    #       >         start at (W/2 - 1, 4)

Source: S4WM (Deng et al. 2023). The environment was not published; geometry, colours and steps were read off the video
on its project page (width 100). What could not be read is a field of `DistractingMemory` whose docstring says "guess";
that draws are independent and uniform, and the final turn too, is one more guess.
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.grid.scene import (
    EMPTY,
    FORWARD,
    NUM_ACTIONS,
    RIGHT,
    SQUARE,
    TURN_LEFT,
    TURN_RIGHT,
    WALL,
    GridScene,
    check_colors,
    color_number,
    walled,
)
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.world import Arrays, EpisodeSeed, check_integer

HEIGHT, HALL = 9, 4
TARGET_ROWS, EXIT_ROWS = (2, 6), (3, 5)
"""Upper and lower."""
HALL_COLORS = ("green", "blue", "purple", "yellow")
ROOM = tuple((x, y) for y in (3, 4, 5) for x in (1, 2, 3))
"""Cells of the room at the left."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistractingMemory(GridWorld):
    """Reward 1 for turning to the target of the sample's colour at the end; the script turns up or down at random.

    Of width W: 2W - 1 observations of context, W/2 + 1 of query.
    """

    in_stem: ClassVar[tuple[str, ...]] = ("width",)
    width: int = 100
    """Cells across, even, at least 8; published: 100, 200, 400."""
    distractor_rate: float = 0.5
    """Guess: each hall cell is coloured with this probability, independently (the video has 47 of 93)."""
    distractor_colors: tuple[str, ...] = HALL_COLORS
    """The video's four colours (19, 10, 10, 8 times). Guess: uniform."""
    last_distractor: int = 4
    """Guess: hall cells are coloured from x = 4 to x = W - this (in the video the last four before W - 3 are empty)."""
    target_colors: tuple[str, ...] = HALL_COLORS
    """Guess: the two targets have two different ones of these, uniformly drawn; the one that matches the sample too."""
    sample_cells: tuple[Any, ...] = ((1, 3), (2, 3), (3, 3), (1, 5), (2, 5), (3, 5))
    """Cells (x, y). Guess: uniform over the room but for the row where the agent walks (the video's is at (3, 5))."""
    epsilon: float = 0.0
    """In training episodes each of the last two actions is one of the seven, drawn at random, with this probability
    (epsilon-greedy): for models to act in."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.width, numbers.Integral) or self.width < 8 or self.width % 2:
            raise ValueError(f"width: expected an even number of at least 8, got {self.width!r}")
        for name in ("distractor_rate", "epsilon"):
            rate = getattr(self, name)
            if not isinstance(rate, numbers.Real) or not 0 <= rate <= 1:
                raise ValueError(f"{name}: expected a probability, 0 to 1, got {rate!r}")
        check_integer("last_distractor", self.last_distractor, 3, self.width - 3)
        check_colors("distractor_colors", self.distractor_colors)
        check_colors("target_colors", self.target_colors, at_least=2)
        cells = self.sample_cells
        if not isinstance(cells, tuple) or not cells or any(cell not in ROOM for cell in cells):
            raise ValueError(f"sample_cells: expected cells (x, y) of the room, x 1..3, y 3..5, got {cells!r}")

    @property
    def stem(self) -> str:
        return f"distracting_memory_{self.width}"

    @property
    def episode_length(self) -> int:
        return self.context_length + self.width // 2 + 1

    @property
    def context_length(self) -> int:
        return 2 * self.width - 1

    @property
    def time_limit(self) -> int:
        """Twice the script's length: who wastes a step can still follow it to its end."""
        return 2 * super().time_limit

    @property
    def num_maps(self) -> int:
        hall = self.width - self.last_distractor - 3
        never = len(self.distractor_colors) if self.distractor_rate else 0
        kinds = never + (self.distractor_rate < 1)  # of a hall cell
        return len(self.target_colors) * (len(self.target_colors) - 1) * 2 * len(self.sample_cells) * kinds**hall

    def draw(self, rng: np.random.Generator) -> GridScene:
        """The map, W cells wide and 9 high, and what is true of the episode."""
        upper, lower = rng.permutation([color_number(name) for name in self.target_colors])[:2]
        answer = int(rng.integers(2))
        sample = self.sample_cells[int(rng.integers(len(self.sample_cells)))]
        cells = self._rooms()
        cells[TARGET_ROWS, self.width - 2] = SQUARE + upper, SQUARE + lower
        cells[sample[1], sample[0]] = SQUARE + (upper, lower)[answer]
        hall = cells[HALL, 4 : self.width - self.last_distractor + 1]
        palette = np.array([color_number(name) for name in self.distractor_colors])
        squares = SQUARE + palette[rng.integers(len(palette), size=len(hall))]
        hall[:] = np.where(rng.random(len(hall)) < self.distractor_rate, squares, EMPTY)
        exits = ((self.width - 2, EXIT_ROWS[answer]), (self.width - 2, EXIT_ROWS[1 - answer]))
        facts: Arrays = {
            "target_colors": np.array([upper, lower], np.uint8),
            "sample_color": np.array((upper, lower)[answer], np.uint8),
            "sample_pos": np.array(sample, np.float32),
            "answer": np.array(answer, np.uint8),
            "map_tiles": cells,
        }
        return GridScene(cells, (self.width // 2 - 1, HALL, RIGHT), exits, facts=facts)

    def walk(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """To the hall's end, to the room, back to the start (2W - 2 actions); to the end, up or down (W/2 + 1)."""
        up = bool(rng.integers(2))
        start, end = self.width // 2 - 1, self.width - 2
        to_the_end, to_the_room, to_the_start = ([FORWARD] * steps for steps in (end - start, end - 1, start - 1))
        context = [*to_the_end, TURN_RIGHT, TURN_RIGHT, *to_the_room, TURN_LEFT, TURN_LEFT, *to_the_start]
        return np.array([*context, *to_the_end, TURN_LEFT if up else TURN_RIGHT, FORWARD], np.int64)

    def script(self, seed: EpisodeSeed) -> NDArray[np.int64]:
        """As of any tile world; after random last actions the agent mostly stays in the hall, without a reward."""
        rng = self._streams(seed)[2]
        actions = self.walk(rng)
        if self.epsilon and seed.split == "train":
            actions[-2:] = np.where(rng.random(2) < self.epsilon, rng.integers(NUM_ACTIONS, size=2), actions[-2:])
        return actions

    def step_truth(self, pose: NDArray[np.int64], watched: NDArray[np.uint8], keys: NDArray[np.uint8]) -> Arrays:
        """Nothing changes but the pose."""
        return {}

    def _rooms(self) -> NDArray[np.uint8]:
        """Everything but the squares."""
        width = self.width
        cells = walled(width, HEIGHT)
        cells[1:-1, 1:-1] = EMPTY
        cells[(2, 6), :5] = WALL
        cells[(3, 5), 4 : width - 3] = WALL
        cells[1:-1, width - 3] = WALL
        cells[HALL, width - 3] = EMPTY
        return cells
