"""Multi Doors Keys: which doors are open by now, and which keys are left?

A corridor, `keys` alcoves above it behind locked doors, as many below it with a key each. Keys open doors of their
colour and are spent. The context looks at everything without picking anything up (but tries the doors, which stay
shut); the query fetches the keys one by one, trying two doors after each, and then tries every door: all are open then.

    #################      3 keys: 17 x 13 cells
    #   #   #   #   #      alcoves x = 4i+1..4i+3, y = 1..3
    ##D###D###D##...       door i at (4i+2, 4)
    #       >       #      corridor y = 5..7; the script returns to (4 (N/2) + 2, 6)
    ##.###.###.##...       openings at (4i+2, 8)
    # k # k # k #   #      key i at (4i+2, 9); alcoves y = 9..11

Source: S4WM (Deng et al. 2023). The environment was not published; a figure of 17 frames of one query on its project
page fits one walk only. What it does not show is a field of `MultiDoorsKeys` whose docstring says "guess"; two more are
the length of the query, drawn again until it fits, and that the two doors tried after a key are any two different ones.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections import Counter
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.grid.scene import (
    DONE,
    DOWN,
    EMPTY,
    FORWARD,
    KEY,
    LEFT,
    LOCKED,
    NUM_ACTIONS,
    OPEN,
    PICK_UP,
    RIGHT,
    TOGGLE,
    TURN_LEFT,
    TURN_RIGHT,
    UP,
    GridScene,
    check_colors,
    color_number,
    walled,
)
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.world import Arrays, check_integer

MAX_DRAWS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiDoorsKeys(GridWorld):
    """No reward, no end; what the view shows depends on all that was picked up and opened before.

    Of N keys: 4 N^2 + 15 N - 5 observations of context (a few more for even N), (17 N^2 + 70 N - 15) / 2 of query.
    Published are 76, 170, 296 and 174, 380, 654 for 3, 5, 7 keys, through which the formulas go (guess for other N). A
    `mirrored` context of an even N is three or four observations shorter, and the query as many longer.
    """

    in_stem: ClassVar[tuple[str, ...]] = ("keys",)
    keys: int = 3
    """Keys, and doors, at least 2; published: 3, 5, 7."""
    colors: tuple[str, ...] = ("green", "blue", "purple", "yellow")
    """Seen in the figure: green, blue, purple (yellow in a model's errors). Guess: N drawn uniformly, with repeats; the
    doors have them in one random order, the keys in another."""
    alcove_depth: int = 3
    """Guess: cells from door to outer wall. The script sees the first cell of an upper alcove, two of a lower one."""
    mirrored: bool = False
    """Guess: the context starts heading right and visits key N - 1, door 0, key N - 2, door 1, ...; or mirrored. The
    published lengths leave no step for turning around: sides alternate, but in which order cannot be seen."""
    turn_around: int = TURN_LEFT
    """Guess: the action (0 left, 1 right) of turning by 180 degrees at the centre. In alcoves the figure shows left."""
    idle_action: int = DONE
    """Guess: when every door was tried, the agent stands at the centre taking this action to the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("keys", self.keys, 2)
        check_colors("colors", self.colors)
        if not isinstance(self.mirrored, bool):
            raise ValueError(f"mirrored: expected True or False, got {self.mirrored!r}")
        check_integer("alcove_depth", self.alcove_depth, 1)
        check_integer("turn_around", self.turn_around, TURN_LEFT, TURN_RIGHT)
        check_integer("idle_action", self.idle_action, 0, NUM_ACTIONS - 1)

    @property
    def stem(self) -> str:
        return f"multi_doors_keys_{self.keys}"

    @property
    def episode_length(self) -> int:
        usual = len(context_walk(self.keys, False, TURN_LEFT).actions) + 1
        return usual + (17 * self.keys**2 + 70 * self.keys - 15) // 2

    @property
    def context_length(self) -> int:
        return len(context_walk(self.keys, self.mirrored, TURN_LEFT).actions) + 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in cells."""
        return 4 * self.keys + 1, 2 * self.alcove_depth + 7

    @property
    def _corridor(self) -> int:
        """Row of the corridor's middle."""
        return self.alcove_depth + 3

    @property
    def _key_cells(self) -> list[tuple[int, int]]:
        return [(4 * i + 2, self._corridor + 3) for i in range(self.keys)]

    @property
    def _door_cells(self) -> list[tuple[int, int]]:
        return [(4 * i + 2, self._corridor - 2) for i in range(self.keys)]

    @property
    def num_maps(self) -> int:
        return count_maps(self.keys, len(self.colors))

    def draw(self, rng: np.random.Generator) -> GridScene:
        """The map, and what is true of the episode."""
        palette = np.array([color_number(name) for name in self.colors])
        colors = palette[rng.integers(len(palette), size=self.keys)]
        doors, keys = rng.permutation(colors), rng.permutation(colors)
        cells = self._rooms()
        for (x, y), color in zip(self._door_cells, doors, strict=True):
            cells[y, x] = LOCKED + color
        for (x, y), color in zip(self._key_cells, keys, strict=True):
            cells[y, x] = KEY + color
        facts: Arrays = {
            "door_colors": doors.astype(np.uint8),
            "key_colors": keys.astype(np.uint8),
            "doors_pos": np.array(self._door_cells, np.float32),
            "keys_pos": np.array(self._key_cells, np.float32),
            "map_tiles": cells,
        }
        start = (4 * (self.keys // 2) + 2, self._corridor, LEFT if self.mirrored else RIGHT)
        return GridScene(cells, start, watched=(*self._key_cells, *self._door_cells), facts=facts)

    def walk(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The context's round, then a query drawn again until it fits, filled up with `idle_action`."""
        steps = self.episode_length - 1
        for _ in range(MAX_DRAWS):
            walk = context_walk(self.keys, self.mirrored, self.turn_around)
            walk.query(rng)
            if len(walk.actions) <= steps:
                idle = [self.idle_action] * (steps - len(walk.actions))
                return np.array(walk.actions + idle, np.int64)
        raise AssertionError(f"{MAX_DRAWS} queries of {self.keys} keys were longer than {steps} steps")

    def step_truth(self, pose: NDArray[np.int64], watched: NDArray[np.uint8], keys: NDArray[np.uint8]) -> Arrays:
        """`key_taken`, `door_open` (..., N) bool and `keys_held` (..., 6) uint8 by colour."""
        key_cells, door_cells = watched[..., : self.keys], watched[..., self.keys :]
        return {"key_taken": key_cells == EMPTY, "door_open": door_cells >= OPEN, "keys_held": keys}

    def _rooms(self) -> NDArray[np.uint8]:
        """Everything but keys and doors."""
        width, height = self.size
        cells = walled(width, height)
        cells[self._corridor - 1 : self._corridor + 2, 1:-1] = EMPTY
        for x, y in self._key_cells:
            cells[y : height - 1, x - 1 : x + 2] = EMPTY
            cells[y - 1, x] = EMPTY
        for x, y in self._door_cells:
            cells[1:y, x - 1 : x + 2] = EMPTY
        return cells


@functools.lru_cache
def count_maps(keys: int, colors: int) -> int:
    """The sum over all choices of N colours, with repeats, of the arrangements squared: of doors and of keys."""
    choices = itertools.combinations_with_replacement(range(colors), keys)
    same = (math.prod(map(math.factorial, Counter(choice).values())) for choice in choices)
    return sum((math.factorial(keys) // repeats) ** 2 for repeats in same)


class Walk:
    """The actions of visits that begin and end at the corridor's centre."""

    def __init__(self, keys: int, heading: int, turn_around: int) -> None:
        self.actions: list[int] = []
        self._keys, self._heading, self._turn_around = keys, heading, turn_around

    def key(self, number: int, pick_up: bool) -> None:
        """Walk to key `number`, two cells down, and back."""
        self._go(number - self._keys // 2)
        self._face(DOWN)
        self.actions += [FORWARD] * 2 + [PICK_UP] * pick_up + [TURN_LEFT] * 2 + [FORWARD] * 2
        self._heading = UP
        self._go(self._keys // 2 - number)

    def door(self, number: int) -> None:
        """Walk to door `number`, one cell up, try it, and back."""
        self._go(number - self._keys // 2)
        self._face(UP)
        self.actions += [FORWARD, TOGGLE, TURN_LEFT, TURN_LEFT, FORWARD]
        self._heading = DOWN
        self._go(self._keys // 2 - number)

    def query(self, rng: np.random.Generator) -> None:
        """Every key in random order, after each two different doors; then every door in random order."""
        for key in rng.permutation(self._keys):
            self.key(int(key), pick_up=True)
            for door in rng.permutation(self._keys)[:2]:
                self.door(int(door))
        for door in rng.permutation(self._keys):
            self.door(int(door))

    def _go(self, alcoves: int) -> None:
        """Along the corridor, four cells an alcove; negative is to the left."""
        if alcoves:
            self._face(RIGHT if alcoves > 0 else LEFT)
            self.actions += [FORWARD] * (4 * abs(alcoves))

    def _face(self, heading: int) -> None:
        """Turn the shorter way round."""
        turns: tuple[list[int], ...] = ([], [TURN_RIGHT], [self._turn_around] * 2, [TURN_LEFT])
        self.actions += turns[(heading - self._heading) % 4]
        self._heading = heading


def context_walk(keys: int, mirrored: bool, turn_around: int) -> Walk:
    """Key N - 1, door 0, key N - 2, door 1, ...; sides alternate, so nothing needs turning around."""
    walk = Walk(keys, LEFT if mirrored else RIGHT, turn_around)
    for number in range(keys):
        first, second = keys - 1 - number, number
        walk.key(second if mirrored else first, pick_up=False)
        walk.door(first if mirrored else second)
    return walk
