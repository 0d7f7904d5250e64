"""Hidden Motion: where is it by now, after it went on moving while nobody looked?

A corridor, seen through whose walls coloured squares run to and fro on tracks of five cells, one cell every 1, 2 or 3
steps, whatever the agent does. Where the corridor begins no track is in view. The context watches every pair of tracks
long enough to see how its squares move, and comes back; the query waits there, goes to look, comes back, waits, ...

    ################    2 stations: 16 x 7 cells
    ####.....#.....#    upper tracks, x = 6i + 4..6i + 8, y = 1
    ################
    #>             #    corridor y = 3; start at (1, 3), station i at (6i + 6, 3)
    ################
    ####.....#.....#    lower tracks, y = 5
    ################

A square's position is a function of time: with phase f and pace p (steps per cell) it is at step t in cell
4 - |4 - k mod 8|, k = floor((t + f) / p). What the context showed decides all that follows, so that an exact answer
exists; to have it takes both a memory of what was seen and a model of how it moves.

Source: our own design. Most tests of memory hold still what is out of view; that it goes on moving is the subject of
Flow Equivariant World Models (Lillemark et al. 2026, arXiv 2601.01075), whose worlds are other ones.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.grid.scene import (
    DONE,
    EMPTY,
    FORWARD,
    RIGHT,
    SQUARE,
    TURN_LEFT,
    VIEW,
    GridScene,
    check_colors,
    color_number,
    walled,
)
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.world import Arrays, check_integer

HEIGHT, CORRIDOR = 7, 3
TRACK_ROWS = (1, 5)
"""Upper and lower."""
FIRST, PITCH = 4, 6
"""x of the first track's left cell, which is not in view from the start; from one station to the next."""
PERIOD = 2 * (VIEW - 1)
"""Cells from one end of a track to the other and back."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenMotion(GridWorld):
    """No reward, no end; what a look at a track shows depends on what was seen there and on the time since.

    Of S stations, two tracks each: `watch` steps at every station and the way there and back are the context; the query
    has S visits in random order, each after a wait of 0 to `away` steps at the start, and stays at the last station.
    """

    in_stem: ClassVar[tuple[str, ...]] = ("stations",)
    stations: int = 2
    """Places to look from, at least 1; as many pairs of tracks."""
    paces: tuple[int, ...] = (1, 2, 3)
    """Steps that a square stays in a cell: one of these, uniformly drawn for each."""
    colors: tuple[str, ...] = ("green", "blue", "purple", "yellow")
    """Of the squares, uniformly drawn for each."""
    watch: int = 24
    """Steps of the context at each station; 8 times the slowest pace shows every square both ways."""
    away: int = 24
    """Longest wait out of view before each visit of the query, in steps."""
    glance: int = 8
    """Steps of each visit of the query."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting, least in (("stations", 1), ("watch", 1), ("away", 0), ("glance", 1)):
            check_integer(setting, getattr(self, setting), least)
        check_colors("colors", self.colors)
        if not isinstance(self.paces, tuple) or not self.paces:
            raise ValueError(f"paces: expected one or more numbers of steps, got {self.paces!r}")
        for pace in self.paces:
            check_integer("paces", pace, 1)
        if len(set(self.paces)) < len(self.paces):
            raise ValueError(f"paces: expected different ones, got {self.paces!r}")

    @property
    def stem(self) -> str:
        return f"hidden_motion_{self.stations}"

    @property
    def episode_length(self) -> int:
        """The longest query: every wait as long as can be, the nearest station visited last."""
        ways = self._ways
        visits = sum(self.away + way + self.glance for way in ways) + sum(way + 4 for way in ways[1:])
        return self.context_length + visits

    @property
    def context_length(self) -> int:
        return 1 + 2 * self._ways[-1] + 4 + self.stations * self.watch

    @property
    def num_maps(self) -> int:
        return (len(self.colors) * sum(PERIOD * pace for pace in self.paces)) ** (2 * self.stations)

    @property
    def _ways(self) -> list[int]:
        """Steps from the start to each station."""
        return [FIRST + VIEW // 2 + PITCH * station - 1 for station in range(self.stations)]

    @property
    def _tracks(self) -> NDArray[np.int64]:
        """(M, 5, 2) x, y of the cells of each track: upper and lower of the first station, of the second, ..."""
        lefts = [(FIRST + PITCH * station, y) for station in range(self.stations) for y in TRACK_ROWS]
        return np.array(lefts)[:, None] + np.array([(along, 0) for along in range(VIEW)])

    def draw(self, rng: np.random.Generator) -> GridScene:
        """Colours, paces and phases; the corridor is always the same."""
        tracks, number = self._tracks, 2 * self.stations
        colors = np.array([color_number(name) for name in self.colors])[rng.integers(len(self.colors), size=number)]
        paces = np.array(self.paces)[rng.integers(len(self.paces), size=number)]
        phases = rng.integers(PERIOD * paces)
        time = np.arange(PERIOD * math.lcm(*self.paces))
        along = place_at(time, paces[:, None], phases[:, None])  # (M, P)
        movers = np.take_along_axis(tracks, along[..., None], axis=1)  # (M, P, 2)
        cells = walled(FIRST + PITCH * self.stations, HEIGHT)
        cells[CORRIDOR, 1:-1] = EMPTY
        cells[tracks[..., 1], tracks[..., 0]] = EMPTY
        cells[movers[:, 0, 1], movers[:, 0, 0]] = SQUARE + colors
        facts: Arrays = {
            "mover_colors": colors.astype(np.uint8),
            "mover_paces": paces,
            "mover_tracks": tracks.astype(np.float32),
            "map_tiles": cells,
        }
        watched = tuple((int(x), int(y)) for x, y in tracks.reshape(-1, 2))
        return GridScene(cells, (1, CORRIDOR, RIGHT), watched=watched, movers=movers, facts=facts)

    def walk(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Watch at every station and come back; then wait, go, glance and come back; at the last station stay."""
        ways, back = self._ways, [TURN_LEFT, TURN_LEFT]
        context: list[int] = []
        for before, way in itertools.pairwise([0, *ways]):
            context += [FORWARD] * (way - before) + [DONE] * self.watch
        context += [*back, *[FORWARD] * ways[-1], *back]
        query: list[int] = []
        for visit, station in enumerate(rng.permutation(self.stations)):
            if visit:
                query += [*back, *[FORWARD] * way, *back]
            way = ways[station]
            query += [DONE] * int(rng.integers(self.away + 1)) + [FORWARD] * way + [DONE] * self.glance
        query += [DONE] * (self.episode_length - self.context_length - len(query))
        return np.array(context + query, np.int64)

    def step_truth(self, pose: NDArray[np.int64], watched: NDArray[np.uint8], keys: NDArray[np.uint8]) -> Arrays:
        """`mover_pos` (..., M, 2) in cells; `mover_in_view` (..., M) bool."""
        cells = watched.reshape(*watched.shape[:-1], 2 * self.stations, VIEW)
        tracks = self._tracks
        position = tracks[np.arange(len(tracks)), (cells != EMPTY).argmax(-1)]
        in_view = (np.abs(position - pose[..., None, :2]) <= VIEW // 2).all(-1)
        return {"mover_pos": position.astype(np.float32), "mover_in_view": in_view}

    def past_truth(self, steps: Arrays) -> Arrays:
        """`mover_last_seen` (B, T, M): the last step, up to this one, at which it was in view; -1 before that."""
        in_view = steps["mover_in_view"]
        time = np.arange(in_view.shape[1])[:, None]
        return {"mover_last_seen": np.maximum.accumulate(np.where(in_view, time, -1), axis=1)}


def place_at(time: NDArray[np.int64], pace: NDArray[np.int64], phase: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cell of its track, 0..4, in which a square is at a time, all of them broadcast."""
    return (VIEW - 1) - np.abs((VIEW - 1) - (time + phase) // pace % PERIOD)
